"""`frameledger serve`: a local web page over an output.

server      the command: socket, address, token, the page in a browser
app         routes: what is asked for, checked, and how it is answered
security    who may ask: Host, token, other sites; what a browser may do with the answers
queries     what the page shows, read from the Ledger
media       bytes of videos by ranges, pictures of frames
static/     the page: plain HTML, CSS and JavaScript, nothing from elsewhere
"""
