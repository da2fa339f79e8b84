{{/* The containers that mount, wait and write, for a daemon of the node and for a sandbox pod alike. */}}

{{/* The directory in the shared volume that the view is mounted on: never the volume itself, or a restarted daemon's mount is not seen. */}}
{{- define "overlayfs-mount.directory" -}}
{{- base (trimSuffix "/" .Values.mount.at) -}}
{{- end -}}

{{/* Where the volume that carries the view is in a daemon's container. */}}
{{- define "overlayfs-mount.mountPoint" -}}
{{- printf "/overlay/%s" (include "overlayfs-mount.directory" .) -}}
{{- end -}}

{{- define "overlayfs-mount.container" -}}
image: {{ include "overlayfs-mount.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{/* Volumes of everything that reads sources. Takes `chart` and `access`, the effective one. */}}
{{- define "overlayfs-mount.volumes" -}}
{{- $cache := include "overlayfs-mount.repoCache" .chart | fromJson -}}
- name: overlayfs-mount-config
  configMap:
    name: {{ include "overlayfs-mount.configName" .chart }}
{{- if ne .access "none" }}
- name: overlayfs-mount-cache
  hostPath:
    path: {{ ternary $cache.path (printf "%s/public" $cache.path) (eq .access "all") | quote }}
    type: DirectoryOrCreate
{{- end }}
- name: overlayfs-mount-state
  emptyDir:
    sizeLimit: {{ .chart.Values.state.sizeLimit }}
- name: overlayfs-mount-run
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end -}}

{{/* Mounts of everything that reads sources: a public view is not even given the private part of the cache. */}}
{{- define "overlayfs-mount.sourceMounts" -}}
{{- $cache := include "overlayfs-mount.repoCache" .chart | fromJson -}}
- name: overlayfs-mount-config
  mountPath: /etc/overlayfs-mount
  readOnly: true
{{- if ne .access "none" }}
- name: overlayfs-mount-cache
  mountPath: {{ ternary $cache.path (printf "%s/public" $cache.path) (eq .access "all") | quote }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* What daemons and `wait` write. The run directory is made below its volume: the volume itself is open to others, and refused. */}}
{{- define "overlayfs-mount.ownMounts" -}}
- name: overlayfs-mount-state
  mountPath: /var/lib/overlayfs-mount
- name: overlayfs-mount-run
  mountPath: /run/overlayfs-mount
{{- end -}}

{{- define "overlayfs-mount.runDir" -}}
- name: OVERLAYFS_MOUNT_RUN_DIR
  value: /run/overlayfs-mount/private
{{- end -}}

{{/* An init container that ends when every required source can be read. Takes `chart` and `access`. */}}
{{- define "overlayfs-mount.wait" -}}
name: overlayfs-mount-wait
{{ include "overlayfs-mount.container" .chart }}
command: [overlayfs-mount, wait, -c, /etc/overlayfs-mount/{{ .access }}.yaml, --timeout, {{ .chart.Values.pod.wait.timeout | quote }}]
securityContext:
  {{- include "overlayfs-mount.confined" . | nindent 2 }}
resources:
  {{- toYaml .chart.Values.pod.resources | nindent 2 }}
env:
  {{- include "overlayfs-mount.runDir" . | nindent 2 }}
volumeMounts:
  {{- include "overlayfs-mount.sourceMounts" . | nindent 2 }}
  {{- include "overlayfs-mount.ownMounts" . | nindent 2 }}
{{- end -}}

{{/* A container that mounts. Takes `chart`, `access`, `volume` (what carries the view), `resources`. */}}
{{- define "overlayfs-mount.mount" -}}
{{- $at := include "overlayfs-mount.mountPoint" .chart -}}
{{ include "overlayfs-mount.container" .chart }}
command: [overlayfs-mount, mount, -f, --supervised, -c, /etc/overlayfs-mount/{{ .access }}.yaml, -o, allow_other
{{- range .chart.Values.mountOptions }}, -o, {{ . | quote }}{{- end }}
{{- if .chart.Values.metrics.enabled }}, --metrics, {{ include "overlayfs-mount.metricsAddress" .chart | quote }}{{- end }}, {{ $at | quote }}]
securityContext:
  {{- include "overlayfs-mount.privileged" . | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
env:
  {{- include "overlayfs-mount.runDir" . | nindent 2 }}
{{- if .chart.Values.metrics.enabled }}
ports:
  - name: overlay-metrics
    containerPort: {{ int .chart.Values.metrics.port }}
{{- end }}
{{- include "overlayfs-mount.probes" . }}
lifecycle:
  preStop:
    exec:
      # A mount that is left in the volume blocks its removal.
      command: [overlayfs-mount, unmount, --lazy, {{ $at | quote }}]
volumeMounts:
  - name: {{ .volume }}
    mountPath: /overlay
    mountPropagation: Bidirectional
  {{- include "overlayfs-mount.sourceMounts" . | nindent 2 }}
  {{- include "overlayfs-mount.ownMounts" . | nindent 2 }}
{{- end -}}

{{/*
Probes of a container that mounts. They ask the daemon and never the mount: `stat` hangs with a daemon that hangs, and succeeds from the
kernel's cache with a daemon that is dead. A view with a stale source can be read, and stays ready.
*/}}
{{- define "overlayfs-mount.probes" -}}
{{- $at := include "overlayfs-mount.mountPoint" .chart }}
startupProbe:
  exec:
    command: [overlayfs-mount, status, {{ $at | quote }}]
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
{{- range $name, $path := dict "readinessProbe" "/readyz" "livenessProbe" "/healthz" }}
{{ $name }}:
  {{- if $.chart.Values.metrics.enabled }}
  httpGet:
    path: {{ $path }}
    port: overlay-metrics
  {{- else }}
  exec:
    command: [overlayfs-mount, status, {{ $at | quote }}]
  {{- end }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}
{{- end -}}
