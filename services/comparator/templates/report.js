(() => {
  "use strict";
  const STEP = 25;
  const box = document.getElementById("cards");
  if (!box) return;
  const later = [...document.querySelectorAll("template.later")];
  const cards = [...box.children, ...later.flatMap((template) => [...template.content.children])];
  let texts = null;
  const text = (i) => {
    texts ??= cards.map((card) => card.textContent.toLowerCase());
    return texts[i];
  };
  const buttons = [...document.querySelectorAll("[data-filter]")];
  const suite = document.getElementById("suite");
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  let filter = buttons.find((button) => button.getAttribute("aria-pressed") === "true").dataset.filter;
  let shown = STEP;

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = cards.filter((card, i) => (filter === "all" || card.dataset.kind === filter)
      && (!suite || !suite.value || card.dataset.suite === suite.value)
      && words.every((word) => text(i).includes(word)));
    box.replaceChildren(...found.slice(0, shown));
    count.textContent = `${Math.min(shown, found.length)} of ${found.length} shown`;
    more.hidden = found.length <= shown;
  };
  const again = () => { shown = STEP; show(); };
  buttons.forEach((button) => button.addEventListener("click", () => {
    filter = button.dataset.filter;
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    again();
  }));
  if (suite) suite.addEventListener("change", again);
  search.addEventListener("input", again);
  document.querySelectorAll("[data-item]").forEach((link) => link.addEventListener("click", () => {
    search.value = link.dataset.item;
    if (suite) suite.value = "";
    buttons.find((button) => button.dataset.filter === "all").click();
  }));
  more.addEventListener("click", () => { shown += STEP; show(); });
  document.querySelector(".tools").hidden = false;
  show();
})();
