package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/websocket"

	"github.com/holdfast-cloud/holdfast"
)

const (
	consoleFrame = 16 << 10         // bytes of one message
	consoleWrite = 10 * time.Second // for a client to take one message
)

// consoleRoute serves a VM's serial console as a websocket of binary messages
// in both directions: first what was printed before, then what follows. It is
// outside huma, which knows no upgrades, but in its description.
func (s *Server) consoleRoute(r chi.Router) {
	s.portRoute(r, "console", "The VM's serial console: a websocket of binary messages, history first", s.o.Backend.Console)
}

// screenRoute serves a VM's screen, keyboard and pointer in the same way: RFB (RFC
// 6143), the server speaking first.
func (s *Server) screenRoute(r chi.Router) {
	s.portRoute(r, "screen", "The VM's screen, keyboard and pointer: a websocket of binary messages that carries RFB", s.o.Backend.Screen)
}

// portRoute serves a stream of bytes from and to a VM.
func (s *Server) portRoute(r chi.Router, what, summary string, open func(context.Context, holdfast.VMID, bool) (io.ReadWriteCloser, error)) {
	path := "/v1/vms/{vm}/" + what
	op := s.operation(http.MethodGet, path, "vm-"+what, summary, 101)
	op.Parameters = []*huma.Param{
		{Name: "vm", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}},
		{Name: "local", In: "query", Description: "Only if this host runs the VM", Schema: &huma.Schema{Type: "boolean"}},
	}
	op.Responses["101"] = &huma.Response{Description: "The " + what}
	s.api.OpenAPI().AddOperation(&op)
	r.Get(path, func(w http.ResponseWriter, r *http.Request) { s.port(w, r, what, open) })
}

func (s *Server) port(w http.ResponseWriter, r *http.Request, what string, open func(context.Context, holdfast.VMID, bool) (io.ReadWriteCloser, error)) {
	if !websocket.IsWebSocketUpgrade(r) {
		writeProblem(w, holdfast.Errorf(holdfast.Invalid, "a %s is a websocket; use the page of the VM, 'holdfast console VM' for a console, or a client that upgrades the connection", what))
		return
	}
	v, err := lookup(r.Context(), s, chi.URLParam(r, "vm"), picture.vm)
	if err != nil {
		writeProblem(w, err)
		return
	}
	port, err := open(r.Context(), v.ID, r.URL.Query().Get("local") == "true")
	if err != nil {
		writeProblem(w, err)
		return
	}
	up := websocket.Upgrader{ReadBufferSize: 4096, WriteBufferSize: consoleFrame, HandshakeTimeout: headerTimeout}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		port.Close()
		return // Upgrade has answered
	}
	s.relay(r.Context(), ws, port)
}

// relay copies both ways until either side or ctx ends, then closes both.
func (s *Server) relay(ctx context.Context, ws *websocket.Conn, port io.ReadWriteCloser) {
	var once sync.Once
	end := func() {
		once.Do(func() {
			port.Close()
			ws.Close()
		})
	}
	defer end()
	done := make(chan struct{})
	defer func() { end(); <-done }()
	go func() {
		defer close(done)
		defer end()
		s.toClient(ws, port)
	}()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.base.Done():
			end()
		case <-ctx.Done():
			end()
		case <-stop:
		}
	}()
	ws.SetReadLimit(consoleFrame)
	for {
		_, b, err := ws.ReadMessage()
		if err != nil {
			return
		}
		if _, err := port.Write(b); err != nil {
			return
		}
	}
}

// toClient sends what the port prints. A client that does not read is cut off.
func (s *Server) toClient(ws *websocket.Conn, port io.Reader) {
	buf := make([]byte, consoleFrame)
	for {
		n, err := port.Read(buf)
		if n > 0 {
			_ = ws.SetWriteDeadline(time.Now().Add(consoleWrite))
			if ws.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			text := "the console has ended"
			if !errors.Is(err, io.EOF) {
				text = err.Error()
			}
			msg := websocket.FormatCloseMessage(websocket.CloseNormalClosure, text[:min(len(text), 120)])
			_ = ws.WriteControl(websocket.CloseMessage, msg, time.Now().Add(consoleWrite))
			return
		}
	}
}
