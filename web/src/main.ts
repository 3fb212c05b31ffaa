/** The first script of the page. This script is small, so that the stream opens while the browser is still compiling
 * start.tsx, which contains the rest of the page. */
import { openStream } from './stream/open'

export const stream = openStream(document.baseURI)
