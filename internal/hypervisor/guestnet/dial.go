package guestnet

import (
	"fmt"
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
	conn, answer, err := ask(socket, strconv.Itoa(port), 2*dialTimeout)
	if err != nil {
		return nil, err
	}
	if answer != "ok" {
		conn.Close()
		return nil, holdfast.Errorf(holdfast.Unavailable, "%s", strings.TrimPrefix(answer, "error "))
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// countTimeout bounds how long the process may take to say what it has carried.
const countTimeout = time.Second

// Count tells how many bytes of frames the guest has received and sent since the
// process that listens at socket was started. Kind Unavailable: it does not answer,
// or is of an earlier program that does not count.
func Count(socket string) (received, sent uint64, err error) {
	conn, answer, err := ask(socket, askCount, countTimeout)
	if err != nil {
		return 0, 0, err
	}
	conn.Close()
	if _, err := fmt.Sscanf(answer, "ok %d %d", &received, &sent); err != nil {
		return 0, 0, holdfast.Errorf(holdfast.Unavailable, "the guest's network does not count")
	}
	return received, sent, nil
}

// ask sends a line to the process and reads the line that it answers.
func ask(socket, line string, most time.Duration) (conn net.Conn, answer string, err error) {
	if conn, err = net.DialTimeout("unix", socket, most); err == nil {
		conn.SetDeadline(time.Now().Add(most))
		if _, err = conn.Write([]byte(line + "\n")); err == nil {
			answer, err = readShortLine(conn)
		}
		if err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return nil, "", holdfast.Errorf(holdfast.Unavailable, "the guest's network does not answer: %w", err)
	}
	return conn, answer, nil
}
