// Package initiator is a small iSCSI initiator (RFC 7143): enough to log in
// with every parameter, to run SCSI commands over one or several connections,
// and to do on purpose what an initiator must not. Tests and measurements use
// it; nothing of the product does.
package initiator
