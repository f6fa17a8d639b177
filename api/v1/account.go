package v1

import "time"

// Login is a user who wants in.
type Login struct {
	User     string `json:"user" maxLength:"63"`
	Password string `json:"password" maxLength:"1024"`
}

// Setup makes the first administrator with the secret of the set-up link.
type Setup struct {
	Token    string `json:"token" maxLength:"128" doc:"What stands after # in the set-up link"`
	User     string `json:"user" maxLength:"63"`
	Password string `json:"password" maxLength:"1024"`
}

// SetupLink makes the first administrator, once.
type SetupLink struct {
	URL string `json:"url" doc:"What stands after # is a secret"`
}

// Session is who somebody is.
type Session struct {
	User    string     `json:"user" doc:"Name of the user, token or certificate; socket: whoever may open that"`
	Kind    string     `json:"kind" enum:"user,token,admin,host,socket"`
	Role    string     `json:"role" enum:"viewer,operator,tenant-admin,cluster-admin"`
	Project string     `json:"project" doc:"Empty: the whole cluster"`
	Expires *time.Time `json:"expires,omitempty" doc:"Of a user's session; an hour without use ends it, too"`
	Issuer  string     `json:"issuer,omitempty" doc:"Of OpenID Connect, that has vouched for the user, who has no password here"`
}

// User is an account with a password.
type User struct {
	Name        string    `json:"name"`
	Role        string    `json:"role" enum:"viewer,operator,tenant-admin,cluster-admin"`
	Project     string    `json:"project,omitempty" doc:"Absent: the whole cluster"`
	Disabled    bool      `json:"disabled,omitempty"`
	HasPassword bool      `json:"has_password"`
	Sessions    int       `json:"sessions"`
	Tokens      int       `json:"tokens"`
	Passkeys    int       `json:"passkeys"`
	Created     time.Time `json:"created"`
	OIDC        *OIDCUser `json:"oidc,omitempty" doc:"By whom the user came; absent: a user of this cluster alone"`
}

// OIDCUser is for whom an issuer of OpenID Connect has vouched.
type OIDCUser struct {
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject" doc:"What the issuer calls the person, whatever their name"`
	Seen    time.Time `json:"seen" doc:"Last log-in"`
}

// UserSpec is a user to be made.
type UserSpec struct {
	Name     string `json:"name" maxLength:"63"`
	Role     string `json:"role" enum:"viewer,operator,tenant-admin,cluster-admin"`
	Project  string `json:"project,omitempty" maxLength:"63"`
	Password string `json:"password,omitempty" maxLength:"1024" doc:"12 bytes at least; without one nobody can log in as that user"`
}

// UserChange changes a user; what is absent stays.
type UserChange struct {
	Role     *string `json:"role,omitempty" enum:"viewer,operator,tenant-admin,cluster-admin"`
	Project  *string `json:"project,omitempty" maxLength:"63" doc:"Empty: the whole cluster"`
	Disabled *bool   `json:"disabled,omitempty"`
}

// PasswordSpec is another password. Who changes their own gives the old one, too.
type PasswordSpec struct {
	Password string `json:"password" maxLength:"1024"`
	Old      string `json:"old,omitempty" maxLength:"1024"`
}

// Token lets a program in.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Owner   string    `json:"owner,omitempty" doc:"Absent: an administrator, by certificate or socket"`
	Role    string    `json:"role" enum:"viewer,operator,tenant-admin,cluster-admin"`
	Project string    `json:"project,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Token   string    `json:"token,omitempty" doc:"Its text, in the answer that makes it and never again"`
}

// TokenSpec is a token to be made.
type TokenSpec struct {
	Name    string `json:"name" maxLength:"63"`
	Role    string `json:"role" enum:"viewer,operator,tenant-admin,cluster-admin"`
	Project string `json:"project,omitempty" maxLength:"63"`
	Seconds int64  `json:"seconds" minimum:"60" maximum:"31622400" doc:"How long it lasts"`
}

// SessionInfo is a session as it is listed.
type SessionInfo struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	From    string    `json:"from"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Current bool      `json:"current,omitempty" doc:"It is the caller's own"`
}

// Health says that the host answers, and nothing else.
type Health struct {
	OK bool `json:"ok"`
}
