// The page of all runs: search, order, and the commands that compare a selection.
(() => {
  const list = document.querySelector("ul.runs");
  if (!list) return;
  const one = (name) => document.getElementById(name);
  const cards = [...list.children];
  const search = one("runs-search"), status = one("runs-status"), sort = one("runs-sort");

  // Every word must begin a word of the card, as in `gan-lab runs --filter`.
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const starts = (text, word) => {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) if (at === 0 || !/[a-z0-9]/.test(text[at - 1])) return true;
      return false;
    };
    let count = 0;
    for (const card of cards) {
      const shown = words.every((word) => starts(card.dataset.text, word)) && (!status.value || card.dataset.status === status.value);
      card.hidden = !shown;
      count += shown;
    }
    one("runs-count").textContent = count === 1 ? "1 run" : `${count.toLocaleString("en-US")} runs`;
    one("runs-none").hidden = count > 0;
  }

  const text = (key) => (a, b) => a.dataset[key].localeCompare(b.dataset[key], "en", { numeric: true });
  const most = (key) => (a, b) => b.dataset[key] - a.dataset[key];
  const orders = {
    changed: most("changed"), name: text("name"), images: most("images"), alerts: most("alerts"),
    // Scores of different metrics are not comparable; runs without one come last.
    score: (a, b) => (a.dataset.score === "") - (b.dataset.score === "") || text("headline")(a, b) || a.dataset.score - b.dataset.score,
  };
  sort.addEventListener("change", () => list.append(...cards.sort(orders[sort.value])));
  search.addEventListener("input", filter);
  status.addEventListener("change", filter);

  const boxes = [...document.querySelectorAll("input.choose-run")];
  function choose() {
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    one("compare-commands").hidden = chosen.length < 2;
    one("compare-clear").disabled = chosen.length === 0;
    one("compare-hint").textContent = chosen.length < 2 ? `${chosen.length} selected. Select two or more runs.` : `${chosen.length} selected. The commands run in the folder from which this page was written.`;
    document.querySelectorAll("[data-command]").forEach((code) => { code.textContent = [code.dataset.command, ...chosen].join(" "); });
  }
  boxes.forEach((box) => box.addEventListener("change", choose));
  one("compare-clear").addEventListener("click", () => { boxes.forEach((box) => { box.checked = false; }); choose(); });

  const since = (seconds) => [[86400, "day"], [3600, "hour"], [60, "minute"]].map(([length, unit]) => [Math.floor(seconds / length), unit]).find(([count]) => count > 0) ?? [0, "minute"];
  document.querySelectorAll("time[data-seconds]").forEach((time) => {
    const then = new Date(1000 * time.dataset.seconds), [count, unit] = since((Date.now() - then) / 1000);
    time.dateTime = then.toISOString();
    time.title = then.toLocaleString("en-US");
    time.textContent = `${count} ${unit}${count === 1 ? "" : "s"} ago`;
  });
  // A browser may restore the form after a reload.
  list.append(...cards.sort(orders[sort.value]));
  filter();
  choose();
})();
