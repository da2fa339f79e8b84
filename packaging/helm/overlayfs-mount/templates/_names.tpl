{{/*
Names, labels and the image. Every named template of this chart takes the context of the chart, or a dict that holds it as `chart`:
in a chart that depends on this one that is `index .Subcharts "overlayfs-mount"`.
*/}}

{{- define "overlayfs-mount.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: `-overlay-...` follows. What is longer ends in a sum of the whole, or two releases could have one name. */}}
{{- define "overlayfs-mount.fullname" -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $name := include "overlayfs-mount.name" . -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- if gt (len $full) 40 -}}
{{- $full = printf "%s-%s" (regexReplaceAll "[-.]+$" (trunc 31 $full) "") ($full | sha256sum | trunc 8) -}}
{{- end -}}
{{- regexReplaceAll "[-.]+$" $full "" -}}
{{- end -}}

{{/* `overlay` keeps these apart from what the platform's chart calls by the same overrides. */}}
{{- define "overlayfs-mount.componentName" -}}
{{- printf "%s-overlay-%s" (include "overlayfs-mount.fullname" .chart) .component -}}
{{- end -}}

{{- define "overlayfs-mount.configName" -}}
{{- include "overlayfs-mount.componentName" (dict "chart" . "component" "config") -}}
{{- end -}}

{{- define "overlayfs-mount.selectorLabels" -}}
app.kubernetes.io/name: {{ include "overlayfs-mount.name" .chart | quote }}
app.kubernetes.io/instance: {{ .chart.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "overlayfs-mount.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .chart.Chart.Name .chart.Chart.Version | replace "+" "_" }}
{{ include "overlayfs-mount.selectorLabels" . }}
app.kubernetes.io/version: {{ .chart.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .chart.Release.Service }}
{{- end -}}

{{- define "overlayfs-mount.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "overlayfs-mount.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "overlayfs-mount.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "overlayfs-mount.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.Values.imagePullSecrets | default list) ((.Values.global | default dict).imagePullSecrets | default list) -}}
{{- /* Some charts take names alone in `global`. */ -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with $secrets | uniq -}}
imagePullSecrets:
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{- define "overlayfs-mount.metricsAddress" -}}
{{- printf "%s:%d" .Values.metrics.address (int .Values.metrics.port) -}}
{{- end -}}

{{/* What every container that is not privileged gets. Root, since the cache belongs to root, and nothing that root may do. */}}
{{- define "overlayfs-mount.confined" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
# Said here too where the pod forbids root.
runAsNonRoot: false
runAsUser: 0
runAsGroup: 0
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "overlayfs-mount.privileged" -}}
privileged: true
readOnlyRootFilesystem: true
# Said here too where the pod forbids root.
runAsNonRoot: false
runAsUser: 0
runAsGroup: 0
{{- end -}}
