// Before the first paint: the theme that was chosen here, and no English where another language is to be shown.
// A plain script, since a module would come after the paint; the page's policy allows none inside the HTML.
{
  const root = document.documentElement;
  let theme = null;
  let language = null;
  try {
    theme = JSON.parse(localStorage.getItem("palmier.theme") ?? "null");
    language = localStorage.getItem("palmier.language");
  } catch {
    // storage is off, or holds something else: as the system has it
  }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  if (!(language ?? navigator.language).toLowerCase().startsWith("en")) root.dataset.translating = "";
}
