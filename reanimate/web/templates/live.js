(() => {
  "use strict";
  const live = document.getElementById("live");
  const stale = document.getElementById("stale");
  let heard = Date.now();
  let rendered = performance.now();

  const duration = (seconds) => {
    if (seconds < 100) return seconds.toFixed(0) + " s";
    const whole = Math.round(seconds);
    const units = [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]];
    for (const [name, unit, lowerName, lower] of units) {
      if (whole >= unit) {
        const rest = Math.floor((whole % unit) / lower);
        return Math.floor(whole / unit) + " " + name + (rest ? " " + rest + " " + lowerName : "");
      }
    }
    return whole + " s";
  };

  const tick = () => {
    const clock = live.querySelector("[data-clock]");
    if (!clock || !["running", "unset", "missed"].includes(clock.dataset.clock)) return;
    const spent = Number(clock.dataset.spent) + (performance.now() - rendered) / 1000;
    const put = (name, text) => {
      const place = clock.querySelector(name);
      if (place) place.textContent = text;
      return place;
    };
    put("[data-spent-text]", duration(spent));
    const rto = Number(clock.dataset.rto);
    if (!rto || !put("[data-left-text]", duration(Math.abs(rto - spent)))) return;
    put("[data-share-text]", (spent / rto * 100).toFixed(spent / rto < 0.1 ? 1 : 0) + " %");
    const bar = clock.querySelector("progress");
    if (bar) bar.value = Math.min(1, spent / rto);
  };

  const interval = () => {
    const mark = live.querySelector("[data-live]");
    return mark ? Number(mark.dataset.live) : 0;
  };

  const refresh = async () => {
    const selected = document.getSelection();
    const reading = selected && !selected.isCollapsed && live.contains(selected.anchorNode);
    if (!reading && !document.hidden) {
      try {
        const url = new URL(location.href);
        url.searchParams.set("part", "live");
        const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(5000) });
        const text = await answer.text();
        const known = new Set([...live.querySelectorAll("details[id]")].map((item) => item.id));
        const opened = new Set([...live.querySelectorAll("details[open][id]")].map((item) => item.id));
        const focused = document.activeElement && document.activeElement.closest("details[id]");
        live.innerHTML = text;
        for (const item of live.querySelectorAll("details[id]")) {
          if (known.has(item.id)) item.open = opened.has(item.id);
          if (focused && item.id === focused.id) item.querySelector("summary").focus({ preventScroll: true });
        }
        heard = Date.now();
        rendered = performance.now();
      } catch {
        // Said on the page below: an old page that looks live is worse than none.
      }
    }
    const silent = (Date.now() - heard) / 1000;
    stale.hidden = reading || silent < 10;
    stale.textContent = "Not live: the server has not answered for " + duration(silent) + ".";
    schedule();
  };

  const schedule = () => {
    const seconds = interval();
    if (seconds) setTimeout(refresh, seconds * 1000);
  };

  document.addEventListener("visibilitychange", () => { heard = Date.now(); });
  setInterval(tick, 500);
  schedule();
})();
