package v1

import "time"

// LoginWays are the ways to log in at this cluster.
type LoginWays struct {
	Password bool     `json:"password" doc:"Always"`
	Passkey  bool     `json:"passkey" doc:"At the name by which the caller has come"`
	OIDC     *OIDCWay `json:"oidc,omitempty" doc:"Absent: OpenID Connect is not set up"`
}

// OIDCWay is how log-in by OpenID Connect is offered.
type OIDCWay struct {
	Name string `json:"name" doc:"What stands on the button"`
}

// OIDC is how people log in by OpenID Connect. The client's secret is never told.
type OIDC struct {
	Name      string     `json:"name" doc:"What stands on the button of the log-in page"`
	Issuer    string     `json:"issuer" doc:"As the issuer calls itself"`
	ClientID  string     `json:"client_id"`
	HasSecret bool       `json:"has_secret"`
	Scopes    []string   `json:"scopes" doc:"What is asked for beside openid"`
	CA        string     `json:"ca,omitempty" doc:"Certificates in PEM that the issuer's may be signed by; absent: those that hosts trust anyway"`
	Domains   []string   `json:"domains" doc:"Only who has a verified e-mail address of one of them is let in; none: all"`
	NameClaim string     `json:"name_claim,omitempty" doc:"What names of users are made of; absent: preferred_username or else email"`
	Rules     []OIDCRule `json:"rules" doc:"The first that fits gives the role. Whom none fits is not let in"`
	Changed   time.Time  `json:"changed"`
}

// OIDCRule gives a role to whoever has a value among those of a claim.
type OIDCRule struct {
	Claim   string `json:"claim" minLength:"1" maxLength:"256" doc:"For example groups, or realm_access.roles for roles within realm_access"`
	Value   string `json:"value" minLength:"1" maxLength:"256"`
	Role    string `json:"role" enum:"viewer,operator,tenant-admin,cluster-admin"`
	Project string `json:"project,omitempty" maxLength:"63" doc:"Absent: the whole cluster"`
}

// OIDCSpec sets log-in by OpenID Connect up, or changes it as a whole.
type OIDCSpec struct {
	Name         string     `json:"name,omitempty" maxLength:"100" doc:"What stands on the button; absent: the issuer's host"`
	Issuer       string     `json:"issuer" maxLength:"2048" doc:"https URL, exactly as the issuer calls itself"`
	ClientID     string     `json:"client_id" maxLength:"256"`
	ClientSecret *string    `json:"client_secret,omitempty" maxLength:"1000" doc:"Absent: the one there was, at the same issuer and for the same client. Empty: none, of a public client"`
	Scopes       []string   `json:"scopes,omitempty" maxItems:"16" doc:"Beside openid; absent: profile and email"`
	CA           string     `json:"ca,omitempty" maxLength:"32768"`
	Domains      []string   `json:"domains,omitempty" maxItems:"32"`
	NameClaim    string     `json:"name_claim,omitempty" maxLength:"256"`
	Rules        []OIDCRule `json:"rules,omitempty" maxItems:"64"`
}

// OIDCBegin is where a log-in goes on.
type OIDCBegin struct {
	URL string `json:"url" doc:"Of the issuer; go there with the browser that asked"`
}

// OIDCAnswer is what the issuer had the browser bring: the parameters of the address
// that it sent it back to.
type OIDCAnswer struct {
	State       string `json:"state" maxLength:"128"`
	Code        string `json:"code,omitempty" maxLength:"4096"`
	Iss         string `json:"iss,omitempty" maxLength:"2048" doc:"RFC 9207"`
	Error       string `json:"error,omitempty" maxLength:"1024"`
	Description string `json:"error_description,omitempty" maxLength:"4096"`
}
