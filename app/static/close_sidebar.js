// In a narrow window the sidebar lies over the page. Streamlit takes it away after a choice in it only on what calls
// itself a phone; elsewhere the chosen page would stay covered. A press on the page is its own sign to close.
document.addEventListener("click", ({ target }) => {
  if (innerWidth <= 768 && target.closest?.("[data-testid=stSidebarNavLink]"))
    document.querySelector(".stMain")?.dispatchEvent(new MouseEvent("mousedown", { bubbles: true }));
});
