// Small drawings of our own for buttons whose words would take too much room.

const PATHS = {
  up: "M4 10h3v10H4zM10 20V10.5L13.5 4c1.5 0 2.5 1.2 2.2 2.7L15 10h4.2c1.2 0 2.1 1.1 1.8 2.3l-1.5 6.2A2 2 0 0 1 17.6 20z",
};

/** The drawing `name`, hidden from screen readers: the button that holds it has a label. */
export function icon(name) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  picture.classList.add("icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  picture.append(path);
  return picture;
}
