// Package pdu is the wire format of iSCSI (RFC 7143 §11 and §13): protocol
// data units with their header and data digests, text keys, and the numbers
// that both ends agree on. It holds no state of a session and decides nothing;
// everything it reads from outside is bounded by what the caller passes.
package pdu
