package iscsi

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// auth is the security stage of a login.
type auth struct {
	entries   []Initiator // who it may be
	method    string      // chosen: "CHAP" or "None"
	digest    func([]byte) []byte
	id        byte
	challenge []byte
	who       *Initiator // proven
}

// needless reports whether a login may go on without a secret. Discovery may:
// it is then told only of targets that ask for none.
func (a *auth) needless(discovery bool) bool {
	return a.method != "CHAP" && (discovery || open(a.entries))
}

// step answers the security keys of one request. done says that the initiator
// is authenticated; rest are the keys of other stages, which may come along.
func (a *auth) step(n *negotiation, pairs []pdu.Pair) (done bool, rest []pdu.Pair, err error) {
	keys := map[string]string{}
	for _, p := range pairs {
		if p.Key != "AuthMethod" && !strings.HasPrefix(p.Key, "CHAP_") {
			rest = append(rest, p)
			continue
		}
		if _, twice := keys[p.Key]; twice {
			return false, nil, refuse(pdu.LoginInitiatorError, "the key "+p.Key+" came twice")
		}
		keys[p.Key] = p.Value
	}
	if m, offered := keys["AuthMethod"]; offered {
		if a.method != "" {
			return false, nil, refuse(pdu.LoginInvalid, "AuthMethod was settled already")
		}
		if err := a.choose(n, m); err != nil {
			return false, nil, err
		}
	}
	if _, asked := keys["CHAP_A"]; asked {
		if err := a.ask(n, keys["CHAP_A"]); err != nil {
			return false, nil, err
		}
	}
	if _, answered := keys["CHAP_R"]; answered {
		if err := a.prove(n, keys); err != nil {
			return false, nil, err
		}
	}
	return a.who != nil || a.needless(n.discovery), rest, nil
}

func (a *auth) choose(n *negotiation, offered string) error {
	withSecret := false
	for _, e := range a.entries {
		withSecret = withSecret || e.Secret != ""
	}
	known := []string{}
	if a.needless(n.discovery) {
		known = append(known, "None")
	}
	if withSecret {
		known = append([]string{"CHAP"}, known...)
	}
	for _, k := range known { // ours is the order: a secret where there is one
		if pdu.Choose(offered, k) != "" {
			a.method = k
			n.say("AuthMethod", k)
			return nil
		}
	}
	return refuse(pdu.LoginAuthFailed, "it offers no way to authenticate that the target takes")
}

// ask sends the challenge.
func (a *auth) ask(n *negotiation, algorithms string) error {
	if a.method != "CHAP" || a.challenge != nil {
		return refuse(pdu.LoginInvalid, "CHAP_A out of turn")
	}
	for alg := range strings.SplitSeq(algorithms, ",") {
		if a.digest = chapDigest(alg); a.digest != nil {
			a.id, a.challenge = newChallenge()
			n.say("CHAP_A", alg)
			n.say("CHAP_I", strconv.Itoa(int(a.id)))
			n.say("CHAP_C", formBinary(a.challenge))
			return nil
		}
	}
	return refuse(pdu.LoginAuthFailed, "it knows no CHAP algorithm that is known here")
}

// prove checks the response, and answers a challenge of the initiator.
func (a *auth) prove(n *negotiation, keys map[string]string) error {
	if a.challenge == nil || a.who != nil {
		return refuse(pdu.LoginInvalid, "CHAP_R out of turn")
	}
	got, good := parseBinary(keys["CHAP_R"])
	if !good {
		return refuse(pdu.LoginAuthFailed, "the CHAP response is malformed")
	}
	for i := range a.entries {
		e := &a.entries[i]
		if e.Secret != "" && e.User == keys["CHAP_N"] && chapMatches(got, chapAnswer(a.digest, a.id, e.Secret, a.challenge)) {
			a.who = e
			break
		}
	}
	if a.who == nil {
		return refuse(pdu.LoginAuthFailed, "the name or the secret is wrong")
	}
	id, asked := keys["CHAP_I"]
	c, with := keys["CHAP_C"]
	if !asked && !with {
		return nil
	}
	idNumber, goodID := pdu.Number(id, 0, 255)
	challenge, goodC := parseBinary(c)
	switch {
	case !goodID || !goodC:
		return refuse(pdu.LoginAuthFailed, "the initiator's challenge is malformed")
	case bytes.Equal(challenge, a.challenge):
		return refuse(pdu.LoginAuthFailed, "the initiator sent the target's own challenge back")
	case a.who.MutualSecret == "":
		return refuse(pdu.LoginAuthFailed, "the initiator asks for a proof that the target was given no secret for")
	}
	n.say("CHAP_N", a.who.MutualUser)
	n.say("CHAP_R", formBinary(chapAnswer(a.digest, byte(idNumber), a.who.MutualSecret, challenge)))
	return nil
}
