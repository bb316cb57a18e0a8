// Streamlit fetches most of its widgets one by one and holds 38 px for each meanwhile: the page would jump as they come.
// So it is shown as one, once all in sight is there: document.py hides it by the root's data-arriving, which says
// "frame" while the strip and the heading may still move, then "body", and then is gone.
{
  const root = document.documentElement;
  const forScript = 4000; // milliseconds after the first element; later, half a page is better than none
  const forWidgets = 1000; // after the script's end
  const main = "[data-testid=stMainBlockContainer]";
  const ours = ":not([data-testid=stAppSkeleton])"; // that is Streamlit's, until the script begins
  let begun, ended;

  // widgets.figure gives every figure's place its height.
  const heldPlace = (skeleton) => parseFloat(getComputedStyle(skeleton.parentElement).minHeight) > 0;
  const outOfSight = (skeleton) => skeleton.getBoundingClientRect().top > innerHeight;
  const allThere = () =>
    [...document.querySelectorAll(`${main} [data-testid=stSkeleton]`)].every(
      (skeleton) => heldPlace(skeleton) || outOfSight(skeleton),
    );

  const look = (now) => {
    if (document.querySelector(`${main} [data-testid=stElementContainer] > ${ours}`)) begun ??= now;
    if (document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "notRunning") ended ??= now;
    if ((ended && allThere()) || now - ended > forWidgets || now - begun > forScript) {
      delete root.dataset.arriving;
      return;
    }
    if (root.dataset.arriving === "frame" && document.querySelector(".come-strip")) root.dataset.arriving = "body";
    requestAnimationFrame(look);
  };
  root.dataset.arriving = "frame";
  requestAnimationFrame(look);
}
