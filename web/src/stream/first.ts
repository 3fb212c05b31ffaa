/** Requests the running pulls that fill the first screen of the Pulls view, because the stream takes longer to start.
 * `base` is the URL of the page. */
export const firstPulls = (base: string): Promise<Response | undefined> =>
  fetch(new URL('api/v1/pulls?layers=false&limit=50&running', base)).catch(() => undefined)
