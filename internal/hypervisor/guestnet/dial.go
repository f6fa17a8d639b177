package guestnet

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Dial connects to a TCP port of the guest through the process that listens at
// socket. Kind Unavailable: the process or the guest does not answer.
func Dial(socket string, port int) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, holdfast.Errorf(holdfast.Invalid, "%d is not a TCP port", port)
	}
	conn, err := net.DialTimeout("unix", socket, dialTimeout)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the guest's network does not answer: %w", err)
	}
	conn.SetDeadline(time.Now().Add(2 * dialTimeout))
	_, err = conn.Write([]byte(strconv.Itoa(port) + "\n"))
	answer := ""
	if err == nil {
		answer, err = readShortLine(conn)
	}
	if err != nil {
		conn.Close()
		return nil, holdfast.Errorf(holdfast.Unavailable, "the guest's network does not answer: %w", err)
	}
	if answer != "ok" {
		conn.Close()
		return nil, holdfast.Errorf(holdfast.Unavailable, "%s", strings.TrimPrefix(answer, "error "))
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}
