{{/*
What the values mean: the same rules as the program's, so that both give the same variables. All of these return JSON.
*/}}

{{/* `repoCache` with its defaults, also where a values file has emptied it. */}}
{{- define "overlayfs-mount.repoCache" -}}
{{- $given := .Values.repoCache | default dict -}}
{{- $cache := dict "enabled" true "autoReload" true "path" "/var/lib/centaur/repos" "interval" "30" -}}
{{- range $key := list "enabled" "autoReload" -}}
{{- if kindIs "bool" (get $given $key) -}}{{- $_ := set $cache $key (get $given $key) -}}{{- end -}}
{{- end -}}
{{- with $given.hostPath -}}{{- $_ := set $cache "path" (trimSuffix "/" .) -}}{{- end -}}
{{- with $given.syncIntervalSeconds -}}{{- $_ := set $cache "interval" (printf "%d" (int64 .)) -}}{{- end -}}
{{- $_ := set $cache "repositories" ($given.repositories | default list) -}}
{{- $_ := set $cache "refs" ($given.repositoryRefs | default dict) -}}
{{- toRawJson $cache -}}
{{- end -}}

{{/* `toolServer` with its defaults. A values file that empties `repo` means that there is none. */}}
{{- define "overlayfs-mount.toolServer" -}}
{{- $given := .Values.toolServer -}}
{{- if eq $given nil -}}{{- $given = dict "repo" "paradigmxyz/centaur" -}}{{- end -}}
{{- $server := dict "enabled" true "repo" ($given.repo | default "") -}}
{{- if kindIs "bool" $given.enabled -}}{{- $_ := set $server "enabled" $given.enabled -}}{{- end -}}
{{- range $key := list "ref" "subdir" "visibility" "extraSources" -}}
{{- with get $given $key -}}{{- $_ := set $server $key . -}}{{- end -}}
{{- end -}}
{{- toRawJson $server -}}
{{- end -}}

{{/* Where the surfaces that have variables are in the view, and what a source that says nothing shows there ("" = nothing). */}}
{{- define "overlayfs-mount.surfaces" -}}
{{- $rows := dict -}}
{{- range $name, $at := dict "tools" "tools" "workflows" "workflows" "skills" ".agents/skills" -}}
{{- $given := get ($.Values.surfaces | default dict) $name | default dict -}}
{{- $row := dict "at" ($given.at | default $at) "subdir" $at -}}
{{- if hasKey $given "subdir" -}}{{- $_ := set $row "subdir" ($given.subdir | default "") -}}{{- end -}}
{{- $_ := set $rows $name $row -}}
{{- end -}}
{{- toRawJson $rows -}}
{{- end -}}

{{/* A path below a source as it is meant: without `.` components and trailing slashes. */}}
{{- define "overlayfs-mount.subdir" -}}
{{- $parts := list -}}
{{- range splitList "/" . -}}
{{- if not (has . (list "" ".")) -}}{{- $parts = append $parts . -}}{{- end -}}
{{- end -}}
{{- join "/" $parts -}}
{{- end -}}

{{- define "overlayfs-mount.visibility" -}}
{{- if regexMatch "^(?i:public)$" (. | default "" | trim) -}}public{{- else -}}private{{- end -}}
{{- end -}}

{{/*
The sources, bottom first: `name`, `repo` or `path`, `ref`, `visibility`, and for each surface that it shows its sub-directory.
*/}}
{{- define "overlayfs-mount.sources" -}}
{{- $surfaces := include "overlayfs-mount.surfaces" . | fromJson -}}
{{- $sources := list -}}
{{- $given := (.Values.overlays | default dict).sources | default list -}}
{{- range $index, $entry := $given -}}
{{- if or $entry.repo $entry.path -}}
{{- $where := printf "overlays.sources[%d]" $index -}}
{{- if and $entry.repo $entry.path -}}{{- fail (printf "%s has both `repo` and `path`\n  cure: keep `repo` for a repository of the cache, `path` for a directory" $where) -}}{{- end -}}
{{- $source := dict "visibility" (include "overlayfs-mount.visibility" $entry.visibility) -}}
{{- range $key := list "repo" "ref" -}}{{- with get $entry $key -}}{{- $_ := set $source $key . -}}{{- end -}}{{- end -}}
{{- with $entry.path -}}{{- $_ := set $source "path" (printf "/%s" (include "overlayfs-mount.subdir" .)) -}}{{- end -}}
{{- $name := $entry.repo -}}
{{- if not $name -}}{{- $name = printf "local/%s" (base $source.path) -}}{{- end -}}
{{- $_ := set $source "name" ($entry.name | default $name) -}}
{{- range $surface, $row := $surfaces -}}
{{- $key := printf "%sSubdir" $surface -}}
{{- $others := $entry.subdirs | default dict -}}
{{- $subdir := $row.subdir -}}
{{- if and (hasKey $entry $key) (hasKey $others $surface) -}}{{- fail (printf "%s.subdirs.%s: `%s` says it too\n  cure: keep one of them" $where $surface $key) -}}{{- end -}}
{{- if hasKey $entry $key -}}{{- $subdir = get $entry $key -}}{{- else if hasKey $others $surface -}}{{- $subdir = get $others $surface -}}{{- end -}}
{{- with $subdir -}}{{- $_ := set $source $surface (include "overlayfs-mount.subdir" .) -}}{{- end -}}
{{- end -}}
{{- $sources = append $sources $source -}}
{{- end -}}
{{- end -}}
{{- if not $given -}}
{{- $sources = include "overlayfs-mount.sourcesOfToolServer" . | fromJsonArray -}}
{{- end -}}
{{- toRawJson $sources -}}
{{- end -}}

{{/* The older way to list sources. */}}
{{- define "overlayfs-mount.sourcesOfToolServer" -}}
{{- $surfaces := include "overlayfs-mount.surfaces" . | fromJson -}}
{{- $server := include "overlayfs-mount.toolServer" . | fromJson -}}
{{- $entries := list -}}
{{- if and $server.enabled $server.repo -}}
{{- $entries = append $entries (pick $server "repo" "ref" "visibility" "subdir") -}}
{{- $entries = concat $entries ($server.extraSources | default list) -}}
{{- end -}}
{{- $sources := list -}}
{{- range $entries -}}
{{- if .repo -}}
{{- $source := dict "name" .repo "repo" .repo "visibility" (include "overlayfs-mount.visibility" .visibility) -}}
{{- with .ref -}}{{- $_ := set $source "ref" . -}}{{- end -}}
{{- $subdirs := dict "tools" .subdir "workflows" .workflowsSubdir "skills" .skillsSubdir -}}
{{- range $surface, $row := $surfaces -}}
{{- with get $subdirs $surface | default $row.subdir -}}{{- $_ := set $source $surface (include "overlayfs-mount.subdir" .) -}}{{- end -}}
{{- end -}}
{{- $sources = append $sources $source -}}
{{- end -}}
{{- end -}}
{{- toRawJson $sources -}}
{{- end -}}

{{/* The sources that a view with this access shows. Takes `chart` and `access`. */}}
{{- define "overlayfs-mount.shownSources" -}}
{{- $shown := list -}}
{{- range include "overlayfs-mount.sources" .chart | fromJsonArray -}}
{{- if or (eq $.access "all") (and (eq $.access "public") (eq .visibility "public")) -}}{{- $shown = append $shown . -}}{{- end -}}
{{- end -}}
{{- toRawJson $shown -}}
{{- end -}}

{{/* What the operator adds to the API: a mapping, or a list of name and value. References to secrets are not for us. */}}
{{- define "overlayfs-mount.operatorVariables" -}}
{{- $given := (.Values.apiRs | default dict).extraEnv -}}
{{- $variables := dict -}}
{{- if kindIs "map" $given -}}
{{- range $name, $value := $given -}}{{- if kindIs "string" $value -}}{{- $_ := set $variables $name $value -}}{{- end -}}{{- end -}}
{{- else if kindIs "slice" $given -}}
{{- range $given -}}{{- if and (kindIs "string" .name) (kindIs "string" .value) -}}{{- $_ := set $variables .name .value -}}{{- end -}}{{- end -}}
{{- end -}}
{{- toRawJson $variables -}}
{{- end -}}
