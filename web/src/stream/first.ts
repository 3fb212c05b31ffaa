/** Requests the running pulls at the top of the Pulls view, which fill the first screen, because the stream takes
 * longer to start. `base` is the address of the page. */
export const firstPulls = (base: string): Promise<Response | undefined> =>
  fetch(new URL('api/v1/pulls?layers=false&limit=50&running', base)).catch(() => undefined)
