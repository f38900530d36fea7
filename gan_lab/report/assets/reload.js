// The page of an unfinished run reloads itself. What the reader has set survives (keep in page.js).
(() => {
  const { reload } = data;
  if (!reload) return;
  const SHORTEST_MS = 3000, LONGEST_MS = 300000, MARGIN_MS = 1500, QUIET_MS = 6000;
  const pause = document.getElementById("pause"), about = document.getElementById("about-updates");
  // How often the page was reloaded without a change: then the training is slow, or has stopped.
  const { unchanged: times = 0, written } = before;
  const unchanged = written === reload.written ? times + 1 : 0;
  const wait = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, reload.after * 2 ** unchanged));
  const due = Math.max(reload.written, unchanged || Date.now() - reload.written > wait ? Date.now() : 0) + wait + MARGIN_MS;
  const time = new Date(reload.written).toLocaleTimeString();
  // A long training has more time between two pages than between two reloads.
  const isLate = unchanged > 1 && Date.now() - reload.written > 2 * reload.after;
  about.textContent = isLate ? `No update since ${time}: the training computes scores or has stopped.` : `Updated at ${time}; this page reloads itself.`;
  let used = 0, pressed = false;
  for (const name of ["pointerdown", "keydown", "input", "wheel"]) addEventListener(name, () => { used = Date.now(); }, { capture: true, passive: true });
  addEventListener("pointerdown", () => { pressed = true; }, true);
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => { pressed = false; used = Date.now(); }, true);
  const isPaused = () => pause.getAttribute("aria-pressed") === "true";
  pause.hidden = false;
  pause.addEventListener("click", () => pause.setAttribute("aria-pressed", String(!isPaused())));
  setInterval(() => {
    const now = Date.now();
    // not under the hands of the reader
    if (now < due || now - used < QUIET_MS || pressed || document.hidden || isPaused()) return;
    const parts = Object.fromEntries(Object.entries(kept).map(([name, save]) => [name, save()]));
    history.replaceState({ page: { parts, unchanged, written: reload.written } }, "");
    location.reload();
  }, 500);
})();
