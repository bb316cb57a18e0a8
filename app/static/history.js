// Streamlit adds an entry to the browser's history whenever a parameter of the address changes, so that Back would go
// through every choice made on a page. Here an entry is a visit to a page; what follows on that page takes its place.
// A page that a button leads to begins at its top, as one does that a link leads to.
{
  const push = history.pushState;
  history.pushState = function (state, unused, address) {
    const there = new URL(address ?? location.href, location.href);
    const add = there.pathname === location.pathname ? history.replaceState : push;
    if (add === push) document.querySelector(".stMain")?.scrollTo(0, 0);
    add.call(this, state, unused, address);
  };
}
