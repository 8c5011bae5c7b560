-- Content types by the ending of a file's name.

return {
  aac = "audio/aac", avif = "image/avif", bin = "application/octet-stream", bmp = "image/bmp",
  css = "text/css", csv = "text/csv", gif = "image/gif", gz = "application/gzip",
  htm = "text/html", html = "text/html", ico = "image/vnd.microsoft.icon", ics = "text/calendar",
  jpeg = "image/jpeg", jpg = "image/jpeg", js = "text/javascript", json = "application/json",
  lua = "text/plain", m4a = "audio/mp4", map = "application/json", md = "text/markdown",
  mjs = "text/javascript", mp3 = "audio/mpeg", mp4 = "video/mp4", oga = "audio/ogg",
  ogg = "audio/ogg", ogv = "video/ogg", otf = "font/otf", pdf = "application/pdf",
  png = "image/png", rss = "application/rss+xml", svg = "image/svg+xml", tar = "application/x-tar",
  tif = "image/tiff", tiff = "image/tiff", ttf = "font/ttf", txt = "text/plain",
  wasm = "application/wasm", wav = "audio/wav", webm = "video/webm", webmanifest =
    "application/manifest+json", webp = "image/webp", woff = "font/woff", woff2 = "font/woff2",
  xhtml = "application/xhtml+xml", xml = "application/xml", xz = "application/x-xz",
  zip = "application/zip",
}
