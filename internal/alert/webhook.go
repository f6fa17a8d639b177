package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// The headers of a message to a webhook.
const (
	SignatureHeader = "Holdfast-Signature" // t=SECONDS,v1=HEX
	MessageHeader   = "Holdfast-Message"   // its id
)

// maxAnswer is how much of a server's answer is read.
const maxAnswer = 4096

// Sign is what a receiver checks: the HMAC-SHA256, under its secret, of the time in
// seconds, a full stop, and the body.
func Sign(secret string, at time.Time, body []byte) string {
	h := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(h, "%d.", at.Unix())
	h.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(h.Sum(nil)))
}

// post tells a webhook and returns what its server answered. Kinds: Unavailable;
// Invalid, the server does not want it; Denied, its address is not allowed.
func (r *Receiver) post(ctx context.Context, m *Message, now time.Time) (answer string, err error) {
	u, err := r.target()
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	ctx, stop := context.WithTimeout(ctx, 2*patience)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return "", holdfast.Errorf(holdfast.Invalid, "the URL cannot be asked")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "holdfast")
	req.Header.Set(MessageHeader, m.ID)
	req.Header.Set(SignatureHeader, Sign(string(r.Secret), now, body))
	client := &http.Client{
		Transport: &http.Transport{DialContext: r.dialer().DialContext, TLSClientConfig: r.trust(u.Hostname()), TLSHandshakeTimeout: patience,
			ResponseHeaderTimeout: patience, MaxResponseHeaderBytes: 16 << 10, DisableKeepAlives: true, DisableCompression: true}, // and no proxy: it would dial where it likes
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // which begins with the URL
			err = u.Err
		}
		return "", unreached(err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what came of it says the status
	answer = clip(oneLine(fmt.Sprintf("%s %s", resp.Status, bytes.TrimSpace(said))), 200)
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return answer, nil
	case code >= 300 && code < 400:
		return answer, holdfast.Errorf(holdfast.Invalid, "the server leads to another address (%d), which is not followed: give the URL that it leads to", code)
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return answer, holdfast.Errorf(holdfast.Unavailable, "the server cannot take it now: it answers %s", answer)
	default:
		return answer, holdfast.Errorf(holdfast.Invalid, "the server does not want it: it answers %s", answer)
	}
}
