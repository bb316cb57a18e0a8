// Streamlit adds an entry to the browser's history whenever a parameter of the address changes, so that Back would go
// through every choice made on a page. Here an entry is a visit to a page; what follows on that page takes its place.
{
  const push = history.pushState;
  history.pushState = function (state, unused, address) {
    const there = new URL(address ?? location.href, location.href);
    const add = there.pathname === location.pathname ? history.replaceState : push;
    add.call(this, state, unused, address);
  };
}
