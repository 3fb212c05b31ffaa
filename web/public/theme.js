try {
  const chosen = localStorage.getItem('pulltrace.theme')
  if (/^(light|dark)$/.test(chosen)) document.documentElement.dataset.theme = chosen
} catch {}
