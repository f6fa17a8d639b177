package v1

import "time"

// AlertReceiver is somebody outside of the cluster who is told what is wrong in it.
// Its secrets are not given back.
type AlertReceiver struct {
	Name     string     `json:"name"`
	Kind     string     `json:"kind" enum:"webhook,mail"`
	Severity string     `json:"severity" enum:"error,warning,info" doc:"The least that is told of"`
	Bundle   int64      `json:"bundle" doc:"Seconds from the first news until it is told, with what came meanwhile; ten times as long if all of it is good"`
	Remind   int64      `json:"remind" doc:"Seconds until it is told again what is still wrong; 0: never"`
	Private  bool       `json:"private" doc:"Its address may be one that is not public"`
	CA       string     `json:"ca,omitempty" doc:"PEM: authorities that alone vouch for its server; absent: those of the host"`
	URL      string     `json:"url,omitempty" doc:"Of a webhook: its server. What follows that in the URL is kept as a secret"`
	Secret   string     `json:"secret,omitempty" doc:"Of a webhook, by which its messages are signed: in the answer that makes it, and nowhere else"`
	Server   string     `json:"server,omitempty" doc:"Of mail: name and port"`
	TLS      string     `json:"tls,omitempty" enum:"starttls,tls,none"`
	User     string     `json:"user,omitempty" doc:"At the mail server"`
	From     string     `json:"from,omitempty"`
	To       []string   `json:"to,omitempty"`
	State    string     `json:"state" enum:"new,ok,failing" doc:"new: it was told nothing yet"`
	Open     int        `json:"open" doc:"Alerts that it knows of and that are not over"`
	Sent     *time.Time `json:"sent,omitempty" doc:"When the last message arrived"`
	Failing  *time.Time `json:"failing,omitempty" doc:"Since when none arrives"`
	Error    string     `json:"error,omitempty" doc:"And why"`
	Created  time.Time  `json:"created"`
}

// AlertReceiverSpec is a receiver to be made.
type AlertReceiverSpec struct {
	Name     string   `json:"name" maxLength:"63"`
	Kind     string   `json:"kind" enum:"webhook,mail"`
	Severity string   `json:"severity,omitempty" enum:"error,warning,info" doc:"The least that is told of; absent: warning"`
	Bundle   *int64   `json:"bundle,omitempty" minimum:"0" maximum:"3600" doc:"Seconds from the first news until it is told; absent: 30"`
	Remind   *int64   `json:"remind,omitempty" minimum:"0" maximum:"2592000" doc:"Seconds until it is told again what is still wrong, 60 at least; 0: never; absent: a day"`
	Private  bool     `json:"private,omitempty" doc:"Its address may be one that is not public: of a private network, or of the host itself"`
	CA       string   `json:"ca,omitempty" maxLength:"16384" doc:"PEM: authorities that alone vouch for its server"`
	URL      string   `json:"url,omitempty" maxLength:"2048" doc:"Of a webhook"`
	Secret   string   `json:"secret,omitempty" maxLength:"256" doc:"Of a webhook, 16 bytes at least; absent: one is made, and is in the answer"`
	Server   string   `json:"server,omitempty" maxLength:"254" doc:"Of mail: name and port"`
	TLS      string   `json:"tls,omitempty" enum:"starttls,tls,none" doc:"To the mail server; absent: tls with port 465, otherwise starttls"`
	User     string   `json:"user,omitempty" maxLength:"256" doc:"At the mail server"`
	Password string   `json:"password,omitempty" maxLength:"256"`
	From     string   `json:"from,omitempty" maxLength:"254" doc:"Mail address"`
	To       []string `json:"to,omitempty" maxItems:"16" doc:"Mail addresses"`
}

// AlertReceiverSet changes a receiver; what is absent stays.
type AlertReceiverSet struct {
	Severity *string   `json:"severity,omitempty" enum:"error,warning,info"`
	Bundle   *int64    `json:"bundle,omitempty" minimum:"0" maximum:"3600"`
	Remind   *int64    `json:"remind,omitempty" minimum:"0" maximum:"2592000"`
	Private  *bool     `json:"private,omitempty"`
	CA       *string   `json:"ca,omitempty" maxLength:"16384" doc:"Empty: those of the host"`
	URL      *string   `json:"url,omitempty" maxLength:"2048"`
	Secret   *string   `json:"secret,omitempty" maxLength:"256"`
	Server   *string   `json:"server,omitempty" maxLength:"254" doc:"With another server the password is to be given, too"`
	TLS      *string   `json:"tls,omitempty" enum:"starttls,tls,none"`
	User     *string   `json:"user,omitempty" maxLength:"256" doc:"Empty: nobody, and no password"`
	Password *string   `json:"password,omitempty" maxLength:"256"`
	From     *string   `json:"from,omitempty" maxLength:"254"`
	To       *[]string `json:"to,omitempty" maxItems:"16"`
}

// AlertTest is what became of a test message.
type AlertTest struct {
	OK     bool   `json:"ok" doc:"Its server has taken it"`
	Answer string `json:"answer" doc:"What the server said, or why it was not reached"`
	Host   string `json:"host" doc:"That sent it; alerts are sent by the host that leads"`
	Millis int64  `json:"millis" doc:"How long it took"`
}
