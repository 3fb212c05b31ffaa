/** The only part of react-dom that react-dom/client needs. The rest, such as portals and preloading, is not used, and
 * would be almost another kilobyte. */
exports.__DOM_INTERNALS_DO_NOT_USE_OR_WARN_USERS_THEY_CANNOT_UPGRADE = { d: {}, p: 0 }
