/** The only part of react-dom that react-dom/client needs. The rest, such as portals and preloading, is unused, and
 * would add almost a kilobyte. */
exports.__DOM_INTERNALS_DO_NOT_USE_OR_WARN_USERS_THEY_CANNOT_UPGRADE = { d: {}, p: 0 }
