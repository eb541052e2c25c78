"use strict";
(() => {
  const root = document.documentElement;
  const find = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Theme: system -> light -> dark; storage is not to be had for every file: page.
  const remembered = () => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  };
  const remember = (theme) => {
    try { localStorage.setItem("theme", theme); } catch { /* shown, not remembered */ }
  };
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const apply = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = theme[0].toUpperCase() + theme.slice(1);
    button.value = theme;
  };
  const first = remembered();
  apply(themes.includes(first) ? first : "system");
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.value) + 1) % themes.length];
    apply(next);
    remember(next);
  });

  // Copy by selection first: a file: page may not have the clipboard interface.  If
  // both are refused, the text stays selected for the reader's own keys.
  const copy = async (code) => {
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    try {
      if (!document.execCommand("copy")) {
        await navigator.clipboard.writeText(code.textContent);
      }
    } catch {
      return "Selected";
    }
    selection.removeAllRanges();
    return "Copied";
  };
  for (const each of find(".copy")) {
    each.addEventListener("click", async () => {
      each.textContent = await copy(each.parentElement.querySelector("code"));
      setTimeout(() => { each.textContent = "Copy"; }, 1500);
    });
  }

  // Filters above a list.
  for (const group of find(".filters")) {
    const items = find("[data-key]", group.nextElementSibling);
    group.addEventListener("click", (event) => {
      const chosen = event.target.closest("button");
      if (!chosen) return;
      for (const each of find("button", group)) {
        each.setAttribute("aria-pressed", String(each === chosen));
      }
      const { show } = chosen.dataset;
      for (const item of items) {
        item.hidden = show !== "all" && item.dataset.key !== show;
      }
    });
  }

  // A link to a finding opens it.
  const reveal = () => {
    const target = location.hash && document.querySelector(location.hash);
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Titles become tooltips that appear at once.
  const tip = document.getElementById("tip");
  for (const each of find("[title]")) {
    each.dataset.tip = each.title;
    each.removeAttribute("title");
  }
  const place = (event) => {
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 12, innerWidth - width - 8);
    const below = event.clientY + 18;
    const top = below + height > innerHeight - 8 ? event.clientY - height - 10 : below;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${top}px`;
  };
  document.addEventListener("pointermove", (event) => {
    const target = event.target.closest && event.target.closest("[data-tip]");
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.dataset.tip;
    place(event);
  });

  // The navigation follows the reader.
  const links = find("nav a");
  const sections = links.map((a) => document.querySelector(a.getAttribute("href")));
  const follow = () => {
    const line = innerHeight * 0.25;
    const passed = sections.filter((s) => s.getBoundingClientRect().top <= line);
    const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 2;
    const now = atEnd && scrollY > 0 ? sections.at(-1) : passed.at(-1) || sections[0];
    links.forEach((a, i) => a.setAttribute("aria-current", String(sections[i] === now)));
  };
  addEventListener("scroll", follow, { passive: true });
  follow();
})();
