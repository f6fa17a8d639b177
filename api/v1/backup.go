package v1

import "time"

// BackupScheduleSpec asks for volumes to be backed up again and again.
type BackupScheduleSpec struct {
	Name       string   `json:"name" maxLength:"63"`
	Volumes    []string `json:"volumes" minItems:"1" maxItems:"32" doc:"Names or identities; they are backed up at one point"`
	Host       string   `json:"host" maxLength:"63" doc:"Host on which the directory is"`
	Dir        string   `json:"dir" minLength:"1" maxLength:"1024" doc:"Absolute; what it is in has to be there"`
	Every      int64    `json:"every" minimum:"60" maximum:"31622400" doc:"Seconds"`
	Keep       string   `json:"keep,omitempty" maxLength:"200" doc:"What is kept of each volume, like last=7,daily=14,weekly=8,monthly=12,within=72h; none: all"`
	FullAfter  int      `json:"full_after,omitempty" minimum:"0" maximum:"10000" doc:"A full backup after so many differences; 0: never"`
	Recipients []string `json:"recipients,omitempty" maxItems:"32" doc:"age's public keys, to which backups are sealed"`
	Plaintext  bool     `json:"plaintext,omitempty" doc:"Encrypted volumes may be backed up in the clear"`
}

// BackupScheduleSet changes a schedule: what is absent stays as it is.
type BackupScheduleSet struct {
	Volumes    *[]string `json:"volumes,omitempty" minItems:"1" maxItems:"32" doc:"All that are backed up from now on"`
	Host       *string   `json:"host,omitempty" maxLength:"63" doc:"Another host runs it; the first backup there is a full one, unless the directory is the same"`
	Dir        *string   `json:"dir,omitempty" minLength:"1" maxLength:"1024" doc:"Absolute; backups that are elsewhere stay there"`
	Every      *int64    `json:"every,omitempty" minimum:"60" maximum:"31622400" doc:"Seconds"`
	Keep       *string   `json:"keep,omitempty" maxLength:"200" doc:"Empty: all"`
	FullAfter  *int      `json:"full_after,omitempty" minimum:"0" maximum:"10000"`
	Recipients *[]string `json:"recipients,omitempty" maxItems:"32" doc:"Empty: none, and backups are not sealed"`
	Plaintext  *bool     `json:"plaintext,omitempty"`
}

// BackupSchedule has volumes backed up again and again.
type BackupSchedule struct {
	Name       string     `json:"name"`
	Volumes    []string   `json:"volumes"`
	Host       string     `json:"host"`
	Dir        string     `json:"dir"`
	Every      int64      `json:"every" doc:"Seconds"`
	Keep       string     `json:"keep,omitempty"`
	FullAfter  int        `json:"full_after"`
	Recipients []string   `json:"recipients"`
	Plaintext  bool       `json:"plaintext"`
	State      string     `json:"state" enum:"new,ok,running,failed,late,away" doc:"late: it should have been run; away: its host is, and nothing is backed up until it returns"`
	Error      string     `json:"error,omitempty" doc:"Why the last run failed"`
	Began      *time.Time `json:"began,omitempty" doc:"The last run"`
	Good       *time.Time `json:"good,omitempty" doc:"The last run that went well"`
	Length     int64      `json:"length,omitempty" doc:"Bytes that it wrote"`
	Next       *time.Time `json:"next,omitempty" doc:"The next run, by the calendar of its host; absent: at once, or not known"`
	Late       *time.Time `json:"late,omitempty" doc:"It should have been run, or run well, since then"`
	Created    time.Time  `json:"created"`
}
