--- Reading HTTP/1 messages, requests or responses, as the bytes come.
--
-- llhttp does it, with checks of its own: whatever two readers could take for different
-- messages is an error. It never waits; who reads the bytes gives them to it.
--
--     local parser = llhttp.new("request")
--     local event, next = parser:execute("GET / HTTP/1.1\r\nHost: here\r\n\r\n")
--     print(event, parser:method(), parser:target()) --> headers  GET  /
-- Differs: parsing | pywsgi's own | llhttp's, stricter

return require "moonlet.llhttp.core"
