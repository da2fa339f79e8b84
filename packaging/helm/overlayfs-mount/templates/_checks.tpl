{{/*
What a schema cannot say in words that help: what is wrong, where, and the cure. Everything that is wrong is told in one run.
*/}}

{{/* The problems of the values, one a line and its cure below; nothing if there are none. */}}
{{- define "overlayfs-mount.problems" -}}
{{- $refs := list -}}
{{- $subdirs := list -}}
{{- $directories := list (list "mount.at" .Values.mount.at) (list "node.hostPath" .Values.node.hostPath) -}}
{{- with (.Values.repoCache | default dict).hostPath -}}{{- $directories = append $directories (list "repoCache.hostPath" .) -}}{{- end -}}
{{- range $repo, $ref := (.Values.repoCache | default dict).repositoryRefs | default dict -}}{{- $refs = append $refs (list (printf "repoCache.repositoryRefs.%s" $repo) $ref) -}}{{- end -}}
{{- $entries := list -}}
{{- range $index, $entry := (.Values.overlays | default dict).sources | default list -}}{{- $entries = append $entries (list (printf "overlays.sources[%d]" $index) $entry) -}}{{- end -}}
{{- with .Values.toolServer -}}
{{- $entries = append $entries (list "toolServer" .) -}}
{{- range $index, $entry := .extraSources | default list -}}{{- $entries = append $entries (list (printf "toolServer.extraSources[%d]" $index) $entry) -}}{{- end -}}
{{- end -}}
{{- range $index, $entry := (.Values.repoCache | default dict).repositories | default list -}}
{{- if kindIs "map" $entry -}}{{- $entries = append $entries (list (printf "repoCache.repositories[%d]" $index) $entry) -}}{{- end -}}
{{- end -}}
{{- range $entries -}}
{{- $where := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- $pair := list (printf "%s.%s" $where $key) $value -}}
{{- if eq $key "ref" -}}{{- $refs = append $refs $pair -}}
{{- else if eq $key "path" -}}{{- $directories = append $directories $pair -}}
{{- else if eq $key "subdirs" -}}
{{- range $surface, $subdir := $value | default dict -}}{{- $subdirs = append $subdirs (list (printf "%s.subdirs.%s" $where $surface) $subdir) -}}{{- end -}}
{{- else if or (hasSuffix "ubdir" $key) (eq $key "promptPath") -}}{{- $subdirs = append $subdirs $pair -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $row := .Values.surfaces | default dict -}}
{{- range $key := list "at" "subdir" -}}{{- $subdirs = append $subdirs (list (printf "surfaces.%s.%s" $name $key) (get $row $key)) -}}{{- end -}}
{{- end -}}
{{- $problems := list -}}
{{- range $refs -}}
{{- $value := index . 1 | default "" -}}
{{- if or (regexMatch "^[-./]|[./]$|\\.\\.|//|/\\.|@\\{|\\.lock(/|$)|[ ~^:?*\\[\\\\\\x00-\\x1f\\x7f]" $value) (eq $value "@") -}}
{{- $problems = append $problems (printf "%s: `%s` is no ref\n  cure: write a branch, a tag, a full ref name or a full commit id" (index . 0) $value) -}}
{{- end -}}
{{- end -}}
{{- range $subdirs -}}
{{- $value := index . 1 | default "" -}}
{{- if regexMatch "^/|//+[^/]|(^|/)\\.\\.(/|$)" $value -}}
{{- $problems = append $problems (printf "%s: `%s` is absolute, or has an empty or `..` component\n  cure: write a path below the source, as `services/tools`; \"\" means off (in toolServer the default)" (index . 0) $value) -}}
{{- end -}}
{{- end -}}
{{- range $directories -}}
{{- $value := index . 1 | default "" -}}
{{- if and $value (not (regexMatch "^(/(\\.?[^./][^/]*|\\.\\.[^/]+))+/?$" $value)) -}}
{{- $problems = append $problems (printf "%s: `%s` is no absolute path without empty, `.` and `..` components\n  cure: write it out, as `/var/lib/centaur/repos`" (index . 0) $value) -}}
{{- end -}}
{{- end -}}
{{- /* It is mounted in containers at its own path, and Kubernetes takes no `:` in one. */ -}}
{{- with (.Values.repoCache | default dict).hostPath -}}
{{- if contains ":" . -}}
{{- $problems = append $problems (printf "repoCache.hostPath: `%s` holds `:`, with which nothing can be mounted in a container\n  cure: use another directory" .) -}}
{{- end -}}
{{- end -}}
{{- join "\n" $problems -}}
{{- end -}}

{{- define "overlayfs-mount.check" -}}
{{- with include "overlayfs-mount.problems" . -}}{{- fail (printf "the values have problems:\n%s" .) -}}{{- end -}}
{{- end -}}
