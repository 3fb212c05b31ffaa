/** The first script of the page. It is small, so that the stream opens while the browser is still compiling the rest,
 * which is in start.tsx. */
import { openStream } from './stream/open'

export const stream = openStream(document.baseURI)
