{{/*
The variables by which the platform's programs find what a view shows. They are those of `overlayfs-mount env`, byte for byte: a test
holds the two against each other.
*/}}

{{/*
Directories of one surface, joined with colons; nothing if there are none.
Takes `chart`, `style`, `sources`, `surface`, `seen` (cache or view), and `public` for public sources only.
*/}}
{{- define "overlayfs-mount.directories" -}}
{{- $cache := include "overlayfs-mount.repoCache" .chart | fromJson -}}
{{- $at := trimSuffix "/" .chart.Values.mount.at -}}
{{- $sources := list -}}
{{- range .sources -}}
{{- if and (hasKey . $.surface) (or (not $.public) (eq .visibility "public")) -}}{{- $sources = append $sources . -}}{{- end -}}
{{- end -}}
{{- if eq .style "union" -}}
{{- if or (not .public) $sources -}}
{{- $row := get (include "overlayfs-mount.surfaces" .chart | fromJson) .surface -}}
{{- printf "%s/%s" $at (include "overlayfs-mount.subdir" $row.at) -}}
{{- end -}}
{{- else -}}
{{- $directories := list -}}
{{- range $sources -}}
{{- $subdir := get . $.surface -}}
{{- if or .path $cache.enabled -}}
{{- $place := printf "%s/%s" $at .name -}}
{{- if eq $.seen "cache" -}}{{- $place = .path | default (printf "%s/%s" $cache.path .repo) -}}{{- end -}}
{{- $directory := printf "%s/%s" $place $subdir -}}
{{- if contains ":" $directory -}}{{- fail (printf "`%s` holds `:`, which separates directories in a variable\n  cure: set `env.style: union`, or use another name" $directory) -}}{{- end -}}
{{- $directories = append $directories $directory -}}
{{- end -}}
{{- end -}}
{{- join ":" $directories -}}
{{- end -}}
{{- end -}}

{{/*
The variables of a program as a JSON object. Takes `chart`, `for` (api, sandbox, workflow-host, repo-cache), and if need be `style`
and `access` in place of those of the values.
*/}}
{{- define "overlayfs-mount.variables" -}}
{{- $style := .style | default .chart.Values.env.style -}}
{{- $access := .access | default .chart.Values.access -}}
{{- $sources := include "overlayfs-mount.shownSources" (dict "chart" .chart "access" $access) | fromJsonArray -}}
{{- $arguments := dict "chart" .chart "style" $style "sources" $sources -}}
{{- if eq .for "api" -}}
{{- include "overlayfs-mount.variablesOfApi" $arguments -}}
{{- else if eq .for "sandbox" -}}
{{- include "overlayfs-mount.variablesOfSandbox" $arguments -}}
{{- else if eq .for "workflow-host" -}}
{{- include "overlayfs-mount.variablesOfWorkflowHost" $arguments -}}
{{- else if eq .for "repo-cache" -}}
{{- include "overlayfs-mount.variablesOfRepoCache" .chart -}}
{{- else -}}
{{- fail (printf "overlayfs-mount: no program `%s`\n  cure: one of api, sandbox, workflow-host, repo-cache" .for) -}}
{{- end -}}
{{- end -}}

{{- define "overlayfs-mount.variablesOfApi" -}}
{{- $variables := dict -}}
{{- $directories := merge (dict "surface" "tools" "seen" "cache") . -}}
{{- $_ := set $variables "TOOL_DIRS" (include "overlayfs-mount.directories" $directories | default "/app/tools") -}}
{{- with include "overlayfs-mount.directories" (set $directories "public" true) -}}{{- $_ := set $variables "KUBERNETES_PUBLIC_TOOL_DIRS" . -}}{{- end -}}
{{- $directories = merge (dict "surface" "workflows" "seen" "cache") . -}}
{{- $_ := set $variables "WORKFLOW_DIRS" (include "overlayfs-mount.directories" $directories | default "/app/workflows") -}}
{{- with include "overlayfs-mount.directories" (set $directories "seen" "view") -}}{{- $_ := set $variables "KUBERNETES_WORKFLOW_DIRS" . -}}{{- end -}}
{{- $variables = merge $variables (include "overlayfs-mount.toolSources" . | fromJson) -}}
{{- $theirs := include "overlayfs-mount.operatorVariables" .chart | fromJson -}}
{{- /* Of two variables of one name Kubernetes takes the later, which is the operator's. Who asks for the union wants the union. */ -}}
{{- if eq .style "list" -}}
{{- range $name, $value := $theirs -}}{{- if hasKey $variables $name -}}{{- $_ := set $variables $name $value -}}{{- end -}}{{- end -}}
{{- end -}}
{{- if hasKey $theirs "SESSION_SANDBOX_EXTRA_ENV" -}}
{{- $ours := include "overlayfs-mount.variablesOfSandbox" . | fromJson -}}
{{- $_ := set $variables "SESSION_SANDBOX_EXTRA_ENV" (include "overlayfs-mount.merged" (dict "theirs" $theirs.SESSION_SANDBOX_EXTRA_ENV "ours" $ours)) -}}
{{- end -}}
{{- toRawJson $variables -}}
{{- end -}}

{{/* KUBERNETES_TOOLS_*: the first source with tools, and the others. */}}
{{- define "overlayfs-mount.toolSources" -}}
{{- $variables := dict -}}
{{- $rows := list -}}
{{- range .sources -}}
{{- if and .repo (hasKey . "tools") -}}
{{- $rows = append $rows (pick (set (deepCopy .) "subdir" (.tools | default ".")) "ref" "repo" "subdir" "visibility") -}}
{{- end -}}
{{- end -}}
{{- if $rows -}}
{{- range $key, $value := first $rows -}}{{- $_ := set $variables (printf "KUBERNETES_TOOLS_%s" (upper $key)) $value -}}{{- end -}}
{{- with rest $rows -}}{{- $_ := set $variables "KUBERNETES_TOOLS_EXTRA_SOURCES" (toRawJson .) -}}{{- end -}}
{{- $cache := include "overlayfs-mount.repoCache" .chart | fromJson -}}
{{- if $cache.enabled -}}
{{- $_ := set $variables "KUBERNETES_TOOLS_REPO_CACHE_PATH" $cache.path -}}
{{- $_ := set $variables "KUBERNETES_TOOLS_AUTO_RELOAD" (toString $cache.autoReload) -}}
{{- end -}}
{{- end -}}
{{- toRawJson $variables -}}
{{- end -}}

{{- define "overlayfs-mount.variablesOfSandbox" -}}
{{- $variables := dict -}}
{{- $directories := merge (dict "surface" "skills" "seen" "view") . -}}
{{- with include "overlayfs-mount.directories" $directories -}}{{- $_ := set $variables "CENTAUR_SKILL_DIRS" . -}}{{- end -}}
{{- with include "overlayfs-mount.directories" (set $directories "public" true) -}}{{- $_ := set $variables "CENTAUR_PUBLIC_SKILL_DIRS" . -}}{{- end -}}
{{- toRawJson $variables -}}
{{- end -}}

{{/* What the operator says explicitly, else where the sources have workflows, else beside their tools, else what the image has. */}}
{{- define "overlayfs-mount.variablesOfWorkflowHost" -}}
{{- $value := "" -}}
{{- if eq .style "list" -}}
{{- $value = (include "overlayfs-mount.operatorVariables" .chart | fromJson).KUBERNETES_WORKFLOW_DIRS | default "" -}}
{{- end -}}
{{- if not $value -}}
{{- $value = include "overlayfs-mount.directories" (merge (dict "surface" "workflows" "seen" "view") .) -}}
{{- end -}}
{{- if not $value -}}
{{- $directories := list -}}
{{- if (include "overlayfs-mount.repoCache" .chart | fromJson).enabled -}}
{{- range .sources -}}
{{- if and .repo (hasKey . "tools") -}}{{- $directories = append $directories (printf "%s/%s/workflows" (trimSuffix "/" $.chart.Values.mount.at) .name) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $value = join ":" $directories | default "/opt/centaur/workflows" -}}
{{- end -}}
{{- toRawJson (dict "WORKFLOW_DIRS" $value) -}}
{{- end -}}

{{/* What keeps the cache, in the platform's words: every repository once, whatever a view may show. */}}
{{- define "overlayfs-mount.variablesOfRepoCache" -}}
{{- $cache := include "overlayfs-mount.repoCache" . | fromJson -}}
{{- $variables := dict -}}
{{- if $cache.enabled -}}
{{- $refs := list -}}
{{- $known := dict -}}
{{- range $repo, $ref := $cache.refs -}}
{{- if $ref -}}{{- $refs = append $refs (printf "%s=%s" $repo $ref) -}}{{- $_ := set $known $repo true -}}{{- end -}}
{{- end -}}
{{- $rows := list -}}
{{- range $cache.repositories -}}
{{- if kindIs "string" . -}}{{- $rows = append $rows (dict "repo" .) -}}{{- else -}}{{- $rows = append $rows . -}}{{- end -}}
{{- end -}}
{{- $repositories := list -}}
{{- $visibilities := dict -}}
{{- range concat $rows (include "overlayfs-mount.sources" . | fromJsonArray) -}}
{{- if .repo -}}
{{- if and .ref (not (hasKey $known .repo)) -}}{{- $refs = append $refs (printf "%s=%s" .repo .ref) -}}{{- $_ := set $known .repo true -}}{{- end -}}
{{- if not (has .repo $repositories) -}}{{- $repositories = append $repositories .repo -}}{{- end -}}
{{- $_ := set $visibilities .repo (include "overlayfs-mount.visibility" .visibility) -}}
{{- end -}}
{{- end -}}
{{- $pairs := list -}}
{{- range $repositories -}}{{- $pairs = append $pairs (printf "%s=%s" . (get $visibilities .)) -}}{{- end -}}
{{- $variables = dict "REPOSITORIES" (join " " $repositories) "REPOSITORY_REFS" (join " " $refs) "REPOSITORY_VISIBILITIES" (join " " $pairs) "SYNC_INTERVAL_SECONDS" $cache.interval -}}
{{- end -}}
{{- toRawJson $variables -}}
{{- end -}}

{{/*
The operator's variables for sandboxes with ours added where theirs have none of the name. What is no list stays as it is.
Takes `theirs` (text) and `ours` (a dict).
*/}}
{{- define "overlayfs-mount.merged" -}}
{{- $rows := fromJsonArray .theirs -}}
{{- /* Where the text is no list the result is one text: what was wrong. */ -}}
{{- $isWrong := and (eq (len $rows) 1) (kindIs "string" (first $rows)) -}}
{{- if $isWrong -}}{{- $isWrong = not (contains (toRawJson (first $rows)) .theirs) -}}{{- end -}}
{{- if or $isWrong (not (hasPrefix "[" (trim .theirs))) -}}
{{- .theirs -}}
{{- else -}}
{{- $names := list -}}
{{- range $rows -}}{{- if kindIs "map" . -}}{{- $names = append $names (get . "name") -}}{{- end -}}{{- end -}}
{{- range $name, $value := .ours -}}
{{- if not (has $name $names) -}}{{- $rows = append $rows (dict "name" $name "value" $value) -}}{{- end -}}
{{- end -}}
{{- toRawJson $rows -}}
{{- end -}}
{{- end -}}

{{/*
The value of SESSION_SANDBOX_EXTRA_ENV for the API: the skills, and what the operator adds. Takes what overlayfs-mount.variables takes.
*/}}
{{- define "overlayfs-mount.sessionSandboxExtraEnv" -}}
{{- $theirs := (include "overlayfs-mount.operatorVariables" .chart | fromJson).SESSION_SANDBOX_EXTRA_ENV | default "[]" -}}
{{- $ours := include "overlayfs-mount.variables" (merge (dict "for" "sandbox") .) | fromJson -}}
{{- include "overlayfs-mount.merged" (dict "theirs" $theirs "ours" $ours) -}}
{{- end -}}

{{/*
Variables as a container's `env`. Takes what overlayfs-mount.variables takes. The API gets SESSION_SANDBOX_EXTRA_ENV also where the
operator says nothing of it: by it the skills reach sandboxes that the API makes.
*/}}
{{- define "overlayfs-mount.env" -}}
{{- $variables := include "overlayfs-mount.variables" . | fromJson -}}
{{- if eq .for "api" -}}
{{- $sandbox := include "overlayfs-mount.sessionSandboxExtraEnv" . -}}
{{- if ne $sandbox "[]" -}}{{- $_ := set $variables "SESSION_SANDBOX_EXTRA_ENV" $sandbox -}}{{- end -}}
{{- end -}}
{{- $rows := list -}}
{{- range $name, $value := $variables -}}
{{- $rows = append $rows (dict "name" $name "value" $value) -}}
{{- end -}}
{{- with $rows -}}{{- toYaml . -}}{{- end -}}
{{- end -}}
