// Shows a chapter of the guide. It knows only the part of Markdown that the chapters use.

const chapter = document.getElementById("chapter");

function element(tag, ...children) {
  const created = document.createElement(tag);
  created.append(...children);
  return created;
}

/** Code, bold, emphasis and links within a paragraph. A link that rustdoc resolves is shown as its text. */
function inline(text) {
  const pieces = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*|\[[^\]]+\](?:\([^)]+\))?)/);
  return pieces.filter(Boolean).map((piece) => {
    if (piece.startsWith("`")) return element("code", piece.slice(1, -1));
    if (piece.startsWith("**")) return element("strong", ...inline(piece.slice(2, -2)));
    if (piece.startsWith("*") && piece.length > 2) return element("em", ...inline(piece.slice(1, -1)));
    const link = piece.match(/^\[([^\]]+)\](?:\(([^)]+)\))?$/);
    if (!link) return piece;
    if (!/^https?:/.test(link[2] ?? "")) return element("span", ...inline(link[1]));
    const anchor = element("a", ...inline(link[1]));
    anchor.href = link[2];
    return anchor;
  });
}

function block(lines) {
  const first = lines[0];
  const heading = first.match(/^(#+) (.*)$/);
  if (heading) return [element(`h${heading[1].length}`, ...inline(heading[2])), ...(lines.length > 1 ? block(lines.slice(1)) : [])].flat();
  if (first.startsWith("|")) {
    const rows = lines.filter((line) => !/^\|[\s:|-]+\|$/.test(line));
    const cells = (line) => line.split("|").slice(1, -1);
    return element("table", ...rows.map((row, index) => element("tr", ...cells(row).map((cell) => element(index ? "td" : "th", ...inline(cell.trim()))))));
  }
  const mark = first.match(/^(- |\d+\. )/);
  if (mark) {
    const items = [];
    for (const line of lines) {
      if (/^(- |\d+\. )/.test(line)) items.push(line.replace(/^(- |\d+\. )/, ""));
      else items[items.length - 1] += ` ${line.trim()}`;
    }
    return element(mark[1] === "- " ? "ul" : "ol", ...items.map((item) => element("li", ...inline(item))));
  }
  return element("p", ...inline(lines.join(" ")));
}

function render(text) {
  const lines = text.split("\n");
  let [blocks, paragraph, code, outer] = [[], [], null, null];
  const finish = () => {
    if (paragraph.length) blocks.push(block(paragraph));
    paragraph = [];
  };
  for (const line of lines) {
    if (line.startsWith("```")) {
      if (code) blocks.push(element("pre", code.join("\n")));
      else finish();
      code = code ? null : [];
    } else if (code) {
      if (!/^# |^#$/.test(line)) code.push(line); // hidden lines of a doctest
    } else if (line.startsWith("<details>")) {
      finish();
      [outer, blocks] = [blocks, [element("summary", line.replace(/<[^>]*>/g, ""))]];
    } else if (line.startsWith("</details>")) {
      finish();
      [blocks, outer] = [[...outer, element("details", ...blocks.flat())], null];
    } else if (line.trim() === "") finish();
    else if (!/^\[[^\]]+\]: /.test(line)) paragraph.push(line);
  }
  finish();
  const back = element("a", "← The laboratory");
  back.href = "/";
  chapter.replaceChildren(back, ...blocks.flat());
}

const answer = await fetch(`${location.pathname}.md`);
if (answer.ok) render(await answer.text());
else chapter.replaceChildren("This chapter is not here. Start the laboratory in the project's folder.");
document.title = chapter.querySelector("h1, h2")?.textContent ?? "The guide";
