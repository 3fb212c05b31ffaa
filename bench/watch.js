/* Record the page's frame times and long tasks. `take` returns the records and clears them. */
() => {
  const seen = (window.__bench = {frames: [], long: []})
  seen.take = () => {
    const {frames, long} = seen
    seen.frames = []
    seen.long = []
    return {frames, long}
  }
  let last = performance.now()
  const frame = now => { seen.frames.push(now - last); last = now; requestAnimationFrame(frame) }
  requestAnimationFrame(frame)
  new PerformanceObserver(list => { for (const task of list.getEntries()) seen.long.push(task.duration) })
    .observe({type: 'longtask'})
}
