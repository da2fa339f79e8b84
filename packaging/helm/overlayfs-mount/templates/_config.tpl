{{/* The configuration: what daemons read is made from the values, and from nothing else. */}}

{{/* What a pod may see that asks for `access`: never more than the values permit. Takes `chart` and `access` (empty: all that is permitted). */}}
{{- define "overlayfs-mount.access" -}}
{{- $order := dict "none" 0 "public" 1 "all" 2 -}}
{{- $permitted := .chart.Values.access | default "all" -}}
{{- $asked := .access | default $permitted -}}
{{- if not (hasKey $order $asked) -}}{{- fail (printf "overlayfs-mount: no access `%s`\n  cure: one of all, public, none" $asked) -}}{{- end -}}
{{- if lt (get $order $asked) (get $order $permitted) -}}{{- $asked -}}{{- else -}}{{- $permitted -}}{{- end -}}
{{- end -}}

{{/* overlays.yaml for a view with this access. Takes `chart` and `access`. */}}
{{- define "overlayfs-mount.config" -}}
{{- $values := .chart.Values -}}
{{- $cache := include "overlayfs-mount.repoCache" .chart | fromJson -}}
{{- $config := dict "access" .access -}}
{{- with ($values.overlays | default dict).sources -}}
{{- $_ := set $config "overlays" (dict "sources" .) -}}
{{- else -}}
{{- $_ := set $config "toolServer" (include "overlayfs-mount.toolServer" .chart | fromJson) -}}
{{- end -}}
{{- with $values.surfaces -}}{{- $_ := set $config "surfaces" . -}}{{- end -}}
{{- $_ := set $config "repoCache" (dict "path" $cache.path "interval" (printf "%ss" $cache.interval)) -}}
{{- $_ := set $config "state" (dict "dir" "/var/lib/overlayfs-mount" "cacheBytes" $values.state.cacheBytes "objectBytes" $values.state.objectBytes) -}}
{{- $mount := deepCopy $values.mount -}}
{{- range $key := list "uid" "gid" -}}
{{- if and (hasKey $mount $key) (not (kindIs "invalid" (get $mount $key))) -}}{{- $_ := set $mount $key (int64 (get $mount $key)) -}}{{- end -}}
{{- end -}}
{{- $_ := set $config "mount" $mount -}}
{{- toYaml $config -}}
{{- end -}}

{{/*
What `sync` reads: the platform's values, since only these say which repositories are kept besides the sources. With `mount.git`, which
they do not know, overlays.yaml.
*/}}
{{- define "overlayfs-mount.syncConfig" -}}
{{- if .Values.mount.git -}}
{{- if (include "overlayfs-mount.repoCache" . | fromJson).repositories -}}
{{- fail "repoCache.repositories: are not kept while `mount.git` is true\n  cure: list them in `overlays.sources`, with every sub-directory \"\"" -}}
{{- end -}}
{{- include "overlayfs-mount.config" (dict "chart" . "access" "all") -}}
{{- else -}}
{{- $values := dict "toolServer" (include "overlayfs-mount.toolServer" . | fromJson) -}}
{{- with (.Values.overlays | default dict).sources -}}{{- $_ := set $values "overlays" (dict "sources" .) -}}{{- end -}}
{{- $cache := include "overlayfs-mount.repoCache" . | fromJson -}}
{{- $_ := set $values "repoCache" (dict "enabled" $cache.enabled "hostPath" $cache.path "syncIntervalSeconds" (int64 $cache.interval) "repositories" $cache.repositories "repositoryRefs" $cache.refs) -}}
{{- toYaml $values -}}
{{- end -}}
{{- end -}}
