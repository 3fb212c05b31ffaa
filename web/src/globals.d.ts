/** The server version for which this page was built. vite.config.ts reads it from pulltrace/__init__.py. */
declare const __PULLTRACE_VERSION__: string
