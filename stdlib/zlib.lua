--- Compression as gzip and HTTP have it, with the library zlib.
--
--     local packed = zlib.deflate("gzip"):write(text, "finish")
--     assert(zlib.inflate():write(packed) == text)
--
-- Nothing here waits; large data is best compressed piece by piece.

return require "moonlet.zlib.core"
