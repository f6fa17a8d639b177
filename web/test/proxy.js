// Lets a browser talk to a host by its unix socket, whose owner needs no log-in.
import http from 'node:http'
import net from 'node:net'

/** Serves a host's socket at a port of this machine; returns the port and an end. */
export function proxy(socketPath) {
  const live = new Set()
  const server = http.createServer((req, res) => {
    const up = http.request({ socketPath, method: req.method, path: req.url, headers: req.headers }, (from) => {
      res.writeHead(from.statusCode, from.headers)
      from.pipe(res)
    })
    up.on('error', () => res.destroy())
    res.on('close', () => up.destroy())
    req.pipe(up)
  })
  server.on('connection', (c) => (live.add(c), c.on('close', () => live.delete(c))))
  server.on('upgrade', (req, client, head) => {
    const up = net.connect(socketPath, () => {
      up.write(`${req.method} ${req.url} HTTP/1.1\r\n` + req.rawHeaders.reduce((s, h, i) => s + h + (i % 2 ? '\r\n' : ': '), '') + '\r\n')
      up.write(head)
      up.pipe(client).pipe(up)
    })
    for (const s of [up, client]) s.on('error', () => (up.destroy(), client.destroy()))
  })
  return new Promise((done) =>
    server.listen(0, '127.0.0.1', () =>
      done({ port: server.address().port, close: () => (live.forEach((c) => c.destroy()), new Promise((end) => server.close(end))) }),
    ),
  )
}
