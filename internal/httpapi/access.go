package httpapi

import "github.com/holdfast-cloud/holdfast/internal/account"

// access is what every operation needs, by its id; what is not in it nobody may.
func access() map[string]account.Need {
	need := func(s account.Scope, v account.Verb) account.Need { return account.Need{Scope: s, Verb: v} }
	var (
		public      = need(account.Public, account.Read)
		own         = need(account.Own, account.Read)
		look        = need(account.Tenant, account.Read)
		operate     = need(account.Tenant, account.Operate)
		change      = need(account.Tenant, account.Change)
		users       = need(account.Accounts, account.Change)
		site        = need(account.Site, account.Read)
		siteWork    = need(account.Site, account.Operate)
		clusterRead = need(account.Cluster, account.Read)
		cluster     = need(account.Cluster, account.Change)
	)
	return map[string]account.Need{
		"health": public, "login": public, "setup": public, "join": public,
		"login-ways": public, "oidc-begin": public, "oidc-finish": public,
		"passkey-login-begin": public, "passkey-login": public, "pages-show": public, "pages-authority": public,

		"self": own, "features": own, "session": own, "logout": own,
		"token-list": own, "token-create": own, "token-revoke": own,
		"session-list": own, "session-revoke": own, "user-passwd": own,
		"passkey-list": own, "passkey-begin": own, "passkey-add": own, "passkey-remove": own,

		"user-list": users, "user-show": users, "user-create": users, "user-set": users, "user-delete": users,

		"vm-list": look, "vm-show": look, "vm-snapshot-list": look, "vm-history": look, "volume-history": look, "status": look, "watch": look,
		"vm-start": operate, "vm-stop": operate, "vm-reset": operate, "vm-console": operate, "vm-screen": operate, "vm-snapshot-create": operate,
		"vm-create": change, "vm-set": change, "vm-delete": change, "vm-clone": change,
		"vm-disk-add": change, "vm-disk-remove": change, "vm-disk-resize": change,
		"vm-snapshot-delete": change, "vm-snapshot-revert": change,

		"volume-list": look, "volume-show": look, "volume-activity": look, "volume-faults": look,
		"snapshot-list": look, "snapshot-show": look, "image-list": look, "image-show": look,
		"volume-export": operate, "volume-diff": operate, "image-export": operate, "snapshot-create": operate,
		"volume-faults-acknowledge": operate,
		"volume-create":             change, "volume-set": change, "volume-delete": change, "volume-grow": change,
		"volume-revert": change, "snapshot-delete": change,

		// About copies on hosts, or things of several projects at once.
		"volume-force-plan": site, "snapshot-group-list": site, "snapshot-group-show": site, "export-list": site, "export-show": site,
		"volume-backup": siteWork, "volume-scrub": siteWork, "volume-verify": siteWork, "volume-force-acknowledge": siteWork, "snapshot-group-create": siteWork,
		"volume-move": cluster, "volume-rebuild": cluster, "volume-force-open": cluster, "volume-restore": cluster,
		"snapshot-group-delete": cluster, "image-import": cluster, "image-fetch": cluster, "image-delete": cluster,
		"export-create": cluster, "export-delete": cluster, "export-allow": cluster, "export-deny": cluster,
		"project-list": own, "project-show": own, "project-create": cluster, "project-set": cluster, "project-delete": cluster, "project-assign": cluster,

		"work": site, "task-list": site, "task-show": site, "metrics": site, "cluster-info": site, "integrity": site,
		"host-list": site, "host-show": site, "host-history": site, "host-drain-show": site, "host-removal": site,
		"rack-list": site, "rack-show": site, "rack-removal": site,
		"disk-list": site, "disk-evacuation-show": site, "pool-list": site, "pool-show": site,
		"incident-list": site, "incident-show": site, "backup-schedule-list": site, "backup-schedule-show": site,
		"host-drain": siteWork, "disk-evacuate": siteWork, "disk-scrub": siteWork, "work-cancel": siteWork, "task-cancel": siteWork, "backup-schedule-run": siteWork,

		"oidc-show": clusterRead, "oidc-set": cluster, "oidc-delete": cluster, "pages-set": cluster, "pages-site-set": cluster, "pages-site-delete": cluster,
		"audit-list": clusterRead, "cluster-key": clusterRead, "debug": clusterRead, "join-code-list": clusterRead, "recovery": clusterRead, "move-ready": clusterRead,
		"upgrade-plan": clusterRead, "program-show": clusterRead, "program-send": cluster, "program-start": cluster,
		"cluster-init": cluster, "self-join": cluster, "setup-link": cluster,
		"join-code-create": cluster, "join-code-revoke": cluster, "host-remove": cluster, "rack-remove": cluster,
		"disk-add": cluster, "disk-remove": cluster, "disk-replace": cluster, "pool-create": cluster, "pool-delete": cluster,
		"backup-schedule-create": cluster, "backup-schedule-set": cluster, "backup-schedule-delete": cluster,
		"cluster-backup": cluster, "cluster-key-init": cluster, "cluster-key-unlock": cluster, "cluster-key-rotate": cluster,
		"alert-receiver-list": clusterRead, "alert-receiver-show": clusterRead,
		"alert-receiver-create": cluster, "alert-receiver-set": cluster, "alert-receiver-delete": cluster, "alert-receiver-test": cluster,
		"recovery-plan": cluster, "recover": cluster, "move-plan": cluster, "move-kv": cluster, "move-cancel": cluster,
	}
}
