// Before the first paint, so that a page in dark does not flash in light. page.js has the rest.
try {
  const theme = localStorage.getItem('genesis-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing shows the system's colours.
}
