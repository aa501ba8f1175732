(() => {
  "use strict";
  const STEP = 25;
  const cards = [...document.querySelectorAll(".item")];
  if (!cards.length) return;
  const texts = cards.map((card) => card.textContent.toLowerCase());
  const buttons = [...document.querySelectorAll("[data-filter]")];
  const suite = document.getElementById("suite");
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  let filter = buttons.find((button) => button.getAttribute("aria-pressed") === "true").dataset.filter;
  let shown = STEP;

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let matches = 0;
    cards.forEach((card, i) => {
      const match = (filter === "all" || card.dataset.kind === filter)
        && (!suite || !suite.value || card.dataset.suite === suite.value)
        && words.every((word) => texts[i].includes(word));
      if (match) matches += 1;
      card.hidden = !match || matches > shown;
    });
    count.textContent = `${Math.min(shown, matches)} of ${matches} shown`;
    more.hidden = matches <= shown;
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
