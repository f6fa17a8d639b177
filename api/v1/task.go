package v1

import "time"

// Task is something that takes long, under way or over.
type Task struct {
	ID       string  `json:"id"`
	Kind     string  `json:"kind" enum:"import,restore,backup,drain,evacuation,move,rebuild,resync,scrub"`
	Subject  string  `json:"subject" doc:"What it is about: the name of an image, volume, host or disk"`
	Detail   string  `json:"detail,omitempty" doc:"What else was asked for"`
	Who      string  `json:"who,omitempty" doc:"Wanted it; absent: the cluster does it by itself, or it is not recorded"`
	Host     string  `json:"host,omitempty" doc:"Is at it; absent: the cluster as a whole"`
	State    string  `json:"state" enum:"running,done,failed,canceled,interrupted" doc:"interrupted: the host that was at it is lost, or was stopped"`
	Progress float64 `json:"progress" doc:"0 to 1; 0 also where it is not known"`
	Done     int64   `json:"done,omitempty" doc:"Bytes, where it goes by bytes"`
	Total    int64   `json:"total,omitempty" doc:"Bytes; absent: not known"`
	Rate     int64   `json:"rate,omitempty" doc:"Bytes a second"`
	LeftSecs int64   `json:"left_seconds,omitempty" doc:"About how long it still takes; absent: not known"`
	Cancel   bool    `json:"cancelable" doc:"It can be canceled"`
	Asked    string  `json:"cancel_asked,omitempty" doc:"Who wants it to end, until it has"`
	Error    string  `json:"error,omitempty" doc:"Why it did not get there"`

	Started *time.Time `json:"started,omitempty"`
	Ended   *time.Time `json:"ended,omitempty"`
	Log     []TaskLine `json:"log,omitempty" doc:"The oldest first, the last 32 lines; only of one that is shown alone"`
}

// TaskLine is a line of a task's log.
type TaskLine struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Over reports whether the task has ended.
func (t Task) Over() bool { return t.State != "running" }

// ImageFetch asks a host to get an image by URL.
type ImageFetch struct {
	Name     string `json:"name" maxLength:"63"`
	URL      string `json:"url" maxLength:"2048" doc:"https, of a public address unless the host's configuration allows more"`
	SHA256   string `json:"sha256,omitempty" maxLength:"80" doc:"Of the file, 64 hexadecimal digits; the image is not made of another one"`
	MaxSize  int64  `json:"max_size,omitempty" minimum:"0" doc:"Bytes of the file; 0, or more than the host's configuration allows: what that allows"`
	Copies   int    `json:"copies,omitempty" minimum:"0" maximum:"8"`
	Pool     string `json:"pool,omitempty" maxLength:"63" doc:"Pool whose disks hold it; none: default"`
	Encrypt  bool   `json:"encrypt,omitempty" doc:"Seal its blocks, and those of its clones, under keys of their own"`
	Compress string `json:"compress,omitempty" enum:"off,fast,auto"`
	AsIs     bool   `json:"as_is,omitempty" doc:"Keep the bytes as they are, whatever they look like: a compressed initrd, say"`
}
