// Streamlit fetches most of its widgets one by one and holds 38 px for each meanwhile: a page would jump as they come.
// So a page that this browser has not seen yet is shown as one, once all in sight is there: document.py hides it by the
// root's data-arriving, which says "frame" while the strip and the heading may still move, then "body", then is gone.
{
  const root = document.documentElement;
  const forScript = 4000; // milliseconds after the first element; later, half a page is better than none
  const forWidgets = 1000; // after the script's end
  const main = "[data-testid=stMainBlockContainer]";
  const ours = ":not([data-testid=stAppSkeleton])"; // that is Streamlit's, until the script begins
  const seen = new Set();
  let newest;

  // widgets.figure gives every figure's place its height.
  const heldPlace = (skeleton) => parseFloat(getComputedStyle(skeleton.parentElement).minHeight) > 0;
  const outOfSight = (skeleton) => skeleton.getBoundingClientRect().top > innerHeight;
  const allThere = () =>
    [...document.querySelectorAll(`${main} [data-testid=stSkeleton]`)].every(
      (skeleton) => heldPlace(skeleton) || outOfSight(skeleton),
    );
  // widgets.laid_out says so where a script goes on, following what is at work.
  const laidOut = () =>
    document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning" ||
    [...document.querySelectorAll(`${main} .come-laid-out`)].some((mark) => !mark.closest("[data-stale=true]"));

  const arrive = () => {
    if (seen.has(location.pathname)) return;
    seen.add(location.pathname);
    const page = (newest = location.pathname);
    let begun, ended;
    const look = (now) => {
      if (page !== newest) return;
      if (document.querySelector(`${main} [data-testid=stElementContainer] > ${ours}`)) begun ??= now;
      if (begun && laidOut()) ended ??= now;
      if ((ended && allThere()) || now - ended > forWidgets || now - begun > forScript) {
        delete root.dataset.arriving;
        return;
      }
      if (document.querySelector(".come-strip")) root.dataset.arriving = "body";
      requestAnimationFrame(look);
    };
    root.dataset.arriving = document.querySelector(".come-strip") ? "body" : "frame";
    requestAnimationFrame(look);
  };

  const push = history.pushState;
  history.pushState = function (...where) {
    push.apply(this, where);
    arrive();
  };
  arrive();
}
