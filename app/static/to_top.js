// A page that a button leads to begins at its top, as one does that a link leads to. Back and Forward add no entry, so
// they come by another way.
{
  const push = history.pushState;
  history.pushState = function (state, unused, address) {
    const there = new URL(address ?? location.href, location.href);
    if (there.pathname !== location.pathname) document.querySelector(".stMain")?.scrollTo(0, 0);
    push.call(this, state, unused, address);
  };
}
