/** The first script that the page loads. It is small, so the first requests are sent while the browser is still
 * compiling start.tsx, which contains the rest of the page. */
import { firstPulls } from './stream/first'
import { openStream } from './stream/open'

export const first = firstPulls(document.baseURI)
export const stream = openStream(document.baseURI)
