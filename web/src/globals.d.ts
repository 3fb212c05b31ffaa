/** Version of the server that this page was built for; vite.config.ts reads it from pulltrace/__init__.py. */
declare const __PULLTRACE_VERSION__: string
