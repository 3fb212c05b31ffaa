/* Record the times at which the first rows and the whole state appear in the page. */
new MutationObserver((_, observer) => {
  if (window.__shown === undefined && document.querySelector('tbody tr') !== null) {
    window.__shown = 0
    requestAnimationFrame(() => { window.__shown = performance.now() })
  }
  if (document.querySelector('[data-connection=live]')?.textContent !== 'Live') return
  observer.disconnect()
  requestAnimationFrame(() => { window.__complete = performance.now() })
}).observe(document, {childList: true, characterData: true, subtree: true})
