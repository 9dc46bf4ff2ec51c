"use strict";
// Selection, limits, sorting, filtering and the download of a page that Python has rendered whole.
// Texts are set by textContent alone; nothing is made of markup.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const content = JSON.parse(one("#content").textContent);
  const rows = all("#models tbody tr"), heads = all("#models thead th");
  const points = all("svg [data-m]"), members = points.filter((point) => point.getAttribute("role") === "option");
  const byNumber = [...rows];
  const limits = new Map();  // axis -> number
  let selected = content.selected;
  document.documentElement.classList.add("js");

  // ---- selection

  function runOf(number) {
    return Number(byNumber[number].dataset.run);
  }

  function select(number) {
    if (!(number in content.slots)) return;
    selected = number;
    const run = runOf(number);
    for (const panel of all(".panel")) {
      panel.hidden = Number(panel.dataset.run) !== run;
      if (panel.hidden) continue;
      all("[data-slot]", panel).forEach((slot, place) => {
        const text = content.slots[number][place];
        if (slot.tagName === "rect") slot.setAttribute("width", text);
        else slot.textContent = text;
      });
    }
    for (const point of points) {
      const chosen = Number(point.dataset.m) === number;
      if (point.getAttribute("role") === "option") {
        point.setAttribute("aria-selected", String(chosen));
        point.setAttribute("tabindex", chosen ? "0" : "-1");
        if (chosen) point.parentNode.append(point);  // above the others
      } else point.classList.toggle("chosen", chosen);
    }
    byNumber.forEach((row, place) => {
      if (place === number) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    });
    shadeWords();
    showPick();
    remember();
  }

  function shownMembers(list) {
    return all("[role=option]", list)
      .filter((point) => !point.classList.contains("out") && point.style.display !== "none")
      .sort((left, right) => left.dataset.m - right.dataset.m);
  }

  function step(event) {
    const order = shownMembers(event.currentTarget);
    const at = order.findIndex((point) => Number(point.dataset.m) === selected);
    const last = order.length - 1;
    const to = {
      ArrowRight: Math.min(at + 1, last), ArrowDown: Math.min(at + 1, last),
      ArrowLeft: Math.max(at - 1, 0), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last,
    }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    const point = order[to];
    select(Number(point.dataset.m));
    point.focus();
  }

  for (const list of all("[role=listbox]")) list.addEventListener("keydown", step);
  for (const point of points) point.addEventListener("click", () => select(Number(point.dataset.m)));
  byNumber.forEach((row, number) => row.addEventListener("click", () => select(number)));

  // ---- words

  function shadeWords() {
    for (const section of all(".words")) {
      const run = Number(section.dataset.run), examples = content.runs[run].words;
      section.hidden = run !== runOf(selected);
      if (section.hidden) continue;
      const layer = Number(all(".layer", section)[0].value);
      all("output", section)[0].textContent = String(layer);
      all(".unknown", section)[0].hidden = examples.some((example) => selected in example.dropped);
      all(".predicted", section).forEach((said, place) => { said.textContent = examples[place].predicted[selected] || ""; });
      all(".text", section).forEach((text, place) => {
        const { layers, dropped } = examples[place], own = dropped[selected] || [];
        all("span, u", text).forEach((word, at) => {
          word.className = at in own ? `k${Math.round(10 * own[at] / (layers + 1))}` : "";
          word.classList.toggle("gone", layer > 0 && own[at] <= layer);
        });
      });
    }
  }
  for (const range of all(".layer")) range.addEventListener("input", shadeWords);

  // ---- limits

  const better = new Map(heads.filter((head) => head.dataset.axis).map((head) => [head.dataset.axis, head.dataset.better]));
  const column = new Map(heads.map((head, place) => [head.dataset.axis, place]));

  function valueOf(row, axis) {
    return Number.parseFloat(row.cells[column.get(axis)].dataset.v);
  }

  function isOut(row) {
    for (const [axis, limit] of limits) {
      const value = valueOf(row, axis);
      if (!(better.get(axis) === "lower" ? value <= limit : value >= limit)) return true;
    }
    return false;
  }

  function setLimit(axis, value, typed) {
    if (value === null || Number.isNaN(value)) limits.delete(axis);
    else limits.set(axis, value);
    for (const field of all("[data-limit]")) {
      if (field.dataset.limit === axis && field !== typed) field.value = limits.has(axis) ? String(limits.get(axis)) : "";
    }
    for (const line of all(".limit")) if (line.dataset.axis === axis) place(line);
    apply();
  }

  function scale(line) {
    const { low, high, start, stop } = line.dataset;
    return { low: Number(low), high: Number(high), start: Number(start), stop: Number(stop) };
  }

  function place(line) {
    const { low, high, start, stop } = scale(line), axis = line.dataset.axis;
    const free = line.dataset.better === "lower" ? high : low;
    const value = Math.min(Math.max(limits.has(axis) ? limits.get(axis) : free, low), high);
    const at = start + (value - low) / (high - low) * (stop - start);
    const upright = line.getAttribute("aria-orientation") === "horizontal";
    line.setAttribute("transform", upright ? `translate(${at} 0)` : `translate(0 ${at})`);
    line.setAttribute("aria-valuenow", String(Number(value.toPrecision(6))));
    line.setAttribute("aria-valuetext", limits.has(axis) ? String(limits.get(axis)) : "no limit");
    line.classList.toggle("free", !limits.has(axis));
  }

  function moveTo(line, value) {
    const { low, high } = scale(line), edge = (high - low) / 200;
    const free = line.dataset.better === "lower" ? value > high - edge : value < low + edge;
    const digits = Math.min(12, Math.max(0, 3 - Math.ceil(Math.log10(high - low))));
    const inside = Math.min(Math.max(value, low), high);
    setLimit(line.dataset.axis, free ? null : Number(inside.toFixed(digits)));
  }

  function drag(event) {
    const line = event.currentTarget;
    if (!line.hasPointerCapture(event.pointerId)) return;
    const { low, high, start, stop } = scale(line);
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(line.ownerSVGElement.getScreenCTM().inverse());
    const along = line.getAttribute("aria-orientation") === "horizontal" ? at.x : at.y;
    moveTo(line, low + (along - start) / (stop - start) * (high - low));
  }

  function nudge(event) {
    const line = event.currentTarget, { low, high } = scale(line);
    const now = Number(line.getAttribute("aria-valuenow")), little = (high - low) / 100;
    const to = {
      ArrowRight: now + little, ArrowUp: now + little, ArrowLeft: now - little, ArrowDown: now - little,
      PageUp: now + 10 * little, PageDown: now - 10 * little, Home: low, End: high,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    moveTo(line, to);
  }

  for (const line of all(".limit")) {
    line.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      line.focus();
      line.setPointerCapture(event.pointerId);
    });
    line.addEventListener("pointermove", drag);
    line.addEventListener("keydown", nudge);
  }
  for (const field of all("[data-limit]")) {
    field.addEventListener("input", () => setLimit(field.dataset.limit, field.value === "" ? null : field.valueAsNumber, field));
    if (field.value !== "") limits.set(field.dataset.limit, field.valueAsNumber);
  }

  function figure() {
    return all(".tabs > figure").find((each, place) => all(".tabs > input")[place].checked);
  }

  function showPick() {
    const code = one("#pick"), shown = figure();
    if (!code || !shown || selected === null) return;
    const axes = all(".limit", shown).map((line) => line.dataset.axis).filter((axis) => limits.has(axis));
    const where = axes.map((axis) => {
      const name = axis.split(/[@#]/)[0], sense = better.get(axis) === "lower" ? "<=" : ">=";
      return ` --where "${name} ${sense} ${limits.get(axis)}"`;
    });
    const setting = shown.dataset.setting ? ` --measured ${shown.dataset.setting}` : "";
    code.textContent = content.runs[runOf(selected)].pick + where.join("") + setting;
  }

  // ---- table

  function apply() {
    const words = one("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, beyond = 0;
    byNumber.forEach((row) => {
      const text = row.textContent.toLowerCase(), out = isOut(row);
      row.hidden = out || !words.every((word) => text.includes(word));
      shown += !row.hidden;
      beyond += out;
    });
    for (const point of points) point.classList.toggle("out", isOut(byNumber[point.dataset.m]));
    const count = `${shown} of ${rows.length} rows`;
    one("#count").textContent = beyond ? `${count}; ${beyond} are beyond the limits` : count;
    showPick();
    remember();
  }

  function compare(left, right, sign) {
    const [a, b] = [left, right].map((cell) => ("v" in cell.dataset ? Number.parseFloat(cell.dataset.v) : cell.textContent));
    if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);  // what was not measured is last
    return sign * (a - b);
  }

  function sortBy(head) {
    const place = heads.indexOf(head), before = head.getAttribute("aria-sort");
    const first = head.dataset.better === "higher" ? "descending" : "ascending";
    const now = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
    for (const other of heads) other.setAttribute("aria-sort", other === head ? now : "none");
    const sign = now === "ascending" ? 1 : -1;
    rows.sort((left, right) => compare(left.cells[place], right.cells[place], sign));
    one("#models tbody").append(...rows);
  }

  function quoted(text) {
    const inert = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;  // no formula
    return /[",\n\r]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
  }

  function csv() {
    const names = heads.flatMap((head) => {
      const name = head.dataset.name;
      return head.dataset.axis ? [name, `${name}_low`, `${name}_high`] : [name];
    });
    const lines = rows.filter((row) => !row.hidden).map((row) =>
      [...row.cells].flatMap((cell) => {
        if (!("v" in cell.dataset)) return [cell.textContent];
        const numbers = cell.dataset.v ? cell.dataset.v.split(" ") : [];
        return [0, 1, 2].map((place) => numbers[place] || "");
      }));
    return [names, ...lines].map((line) => line.map(quoted).join(",") + "\n").join("");
  }

  for (const button of all(".sort")) button.addEventListener("click", () => sortBy(button.closest("th")));
  one("#filter").addEventListener("input", apply);
  one("#download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "models.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // ---- the rest

  for (const switched of all(".legend input")) {
    switched.addEventListener("change", () => {
      const shown = switched.closest("figure");
      const off = new Set(all(".legend input", shown).filter((each) => !each.checked).map((each) => each.dataset.kind));
      for (const drawn of all("svg [data-kind]", shown)) {
        drawn.style.display = off.has(drawn.dataset.kind) || off.has(`run ${drawn.dataset.run}`) ? "none" : "";
      }
    });
  }

  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentNode.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        document.execCommand("copy");
      }
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }

  const tabs = all(".tabs > input");
  for (const tab of tabs) tab.addEventListener("change", () => { showPick(); remember(); });

  function named(row) {
    return `${row.dataset.run}-${row.querySelector("th").textContent}`;
  }

  function remember() {
    if (selected === null) return;
    const tab = tabs.findIndex((each) => each.checked);
    history.replaceState(null, "", `#${named(byNumber[selected])},${tab}`);
  }

  function recall() {
    const [name, tab] = location.hash.slice(1).split(",");
    const number = byNumber.findIndex((row) => named(row) === name);
    if (tabs[tab]) tabs[tab].checked = true;
    if (number in content.slots) selected = number;
  }

  recall();
  all(".limit").forEach(place);
  apply();
  if (selected !== null) select(selected);
})();
