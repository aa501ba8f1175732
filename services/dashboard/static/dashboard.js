// Light or dark as the browser remembers it, and the keys that open pages: g, then the page's letter.
(() => {
  const remembered = localStorage.getItem("theme");
  const apply = () => remembered && window.Quasar && Quasar.Dark.set(remembered === "dark");
  document.addEventListener("DOMContentLoaded", apply);
  window.dashboard = {
    toggleTheme() {
      Quasar.Dark.toggle();
      localStorage.setItem("theme", Quasar.Dark.isActive ? "dark" : "light");
    },
  };
  let leader = 0;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable], .q-field");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "g") { leader = Date.now(); return; }
    if (Date.now() - leader > 1500) return;
    leader = 0;
    document.querySelector(`.side-line[data-key="${CSS.escape(event.key)}"]`)?.click();
  });
})();

// Times stand in the page in UTC with their machine form; people read them in their own zone.
(() => {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const localize = (root) => {
    for (const time of root.querySelectorAll?.("time[datetime]") ?? []) {
      const iso = time.getAttribute("datetime");
      if (time.dataset.shown === iso) continue;
      time.dataset.shown = iso;
      time.title = iso;
      (time.firstElementChild ?? time).textContent = format.format(new Date(iso));
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    localize(document);
    let waiting = false;
    new MutationObserver(() => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; localize(document); });
    }).observe(document.body, { childList: true, subtree: true });
  });
})();
