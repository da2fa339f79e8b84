{{/*
The parts of a sandbox pod, for charts that depend on this one. Each takes a dict:
  chart    `index .Subcharts "overlayfs-mount"`
  access   all, public or none; without it what the values permit, and never more than that
  volume   a volume of the pod's own that carries the view, as its home directory; without it one is made
and pod.resources also `resources`, pod.env also `for` and `style`. docs/KUBERNETES.md shows a whole pod.
*/}}

{{/* `.` with the effective access, and the kind of wiring: sidecar, node, devicePlugin or none. */}}
{{- define "overlayfs-mount.pod.facts" -}}
{{- $values := .chart.Values -}}
{{- $kind := $values.fuseAccess -}}
{{- if eq $kind "privileged" -}}{{- $kind = $values.pod.view -}}{{- end -}}
{{- $access := include "overlayfs-mount.access" . -}}
{{- if and (eq $kind "node") (ne $access $values.access) -}}
{{- fail (printf "overlayfs-mount: this pod asks for access `%s`, and the node's daemon has mounted `%s`\n  cure: `pod.view: sidecar`, or a release of its own with `access: %s`" $access $values.access $access) -}}
{{- end -}}
{{- if and (eq $kind "node") .volume -}}
{{- fail (printf "overlayfs-mount: volume `%s` cannot carry the view of the node's daemon\n  cure: leave `volume` out, and set `mount.at` to a place of its own, as /overlay/github" .volume) -}}
{{- end -}}
{{- toRawJson (dict "kind" $kind "access" $access "volume" (.volume | default "overlay") "isMade" (not .volume)) -}}
{{- end -}}

{{/* Entries of `volumes`. */}}
{{- define "overlayfs-mount.pod.volumes" -}}
{{- $facts := include "overlayfs-mount.pod.facts" . | fromJson -}}
{{- if eq $facts.kind "node" -}}
- name: {{ $facts.volume }}
  hostPath:
    path: {{ .chart.Values.node.hostPath | quote }}
    type: Directory
{{- else -}}
{{- if eq $facts.kind "devicePlugin" -}}
- name: overlayfs-mount-program
  emptyDir: {}
{{ else if $facts.isMade -}}
- name: {{ $facts.volume }}
  emptyDir: {}
{{ end -}}
{{ include "overlayfs-mount.volumes" (dict "chart" .chart "access" $facts.access) }}
{{- end -}}
{{- end -}}

{{/* Entries of `initContainers`, before those that read the view: wait for the sources, then mount. */}}
{{- define "overlayfs-mount.pod.initContainers" -}}
{{- $facts := include "overlayfs-mount.pod.facts" . | fromJson -}}
{{- $daemon := dict "chart" .chart "access" $facts.access "volume" $facts.volume "resources" .chart.Values.pod.resources -}}
{{- if eq $facts.kind "node" -}}
- name: overlayfs-mount-wait
  {{- include "overlayfs-mount.container" .chart | nindent 2 }}
  command: [overlayfs-mount, wait, --timeout, {{ .chart.Values.pod.wait.timeout | quote }}, {{ include "overlayfs-mount.mountPoint" .chart | quote }}]
  securityContext:
    {{- include "overlayfs-mount.confined" . | nindent 4 }}
  resources:
    {{- toYaml .chart.Values.pod.resources | nindent 4 }}
  volumeMounts:
    - name: {{ $facts.volume }}
      mountPath: /overlay
      mountPropagation: HostToContainer
      readOnly: true
{{- else -}}
-
  {{- include "overlayfs-mount.wait" $daemon | nindent 2 }}
{{- if eq $facts.kind "sidecar" }}
- name: overlayfs-mount
  restartPolicy: Always
  {{- include "overlayfs-mount.mount" $daemon | nindent 2 }}
{{- else }}
- name: overlayfs-mount-{{ ternary "program" "export" (eq $facts.kind "devicePlugin") }}
  {{- include "overlayfs-mount.container" .chart | nindent 2 }}
  {{- if eq $facts.kind "devicePlugin" }}
  command: [sh, -c, 'cp "$(command -v overlayfs-mount)" /overlay/overlayfs-mount']
  {{- else }}
  command: [overlayfs-mount, export, -c, /etc/overlayfs-mount/{{ $facts.access }}.yaml, {{ include "overlayfs-mount.mountPoint" .chart | quote }}]
  {{- end }}
  securityContext:
    {{- include "overlayfs-mount.confined" . | nindent 4 }}
  resources:
    {{- toYaml .chart.Values.pod.resources | nindent 4 }}
  volumeMounts:
    - name: {{ ternary "overlayfs-mount-program" $facts.volume (eq $facts.kind "devicePlugin") }}
      mountPath: /overlay
    {{- include "overlayfs-mount.sourceMounts" $daemon | nindent 4 }}
    {{- include "overlayfs-mount.ownMounts" $daemon | nindent 4 }}
{{- end }}
{{- end -}}
{{- end -}}

{{/*
Entries of the agent container's `volumeMounts`. The view appears at `mount.at`, as a directory of the volume: what a daemon mounts there
later, after a restart, arrives as well. With a subPath it would not.
*/}}
{{- define "overlayfs-mount.pod.volumeMounts" -}}
{{- $facts := include "overlayfs-mount.pod.facts" . | fromJson -}}
{{- if eq $facts.kind "devicePlugin" -}}
- name: overlayfs-mount-program
  mountPath: /opt/overlayfs-mount
  readOnly: true
{{ include "overlayfs-mount.sourceMounts" (dict "chart" .chart "access" $facts.access) }}
{{- else -}}
- name: {{ $facts.volume }}
  mountPath: {{ dir (trimSuffix "/" .chart.Values.mount.at) | quote }}
  {{- if ne $facts.kind "none" }}
  mountPropagation: HostToContainer
  {{- end }}
  {{- if $facts.isMade }}
  readOnly: true
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Entries of a container's `env`; `for` is sandbox unless given. */}}
{{- define "overlayfs-mount.pod.env" -}}
{{- include "overlayfs-mount.env" (merge (dict "chart" .chart "access" (include "overlayfs-mount.access" .)) . (dict "for" "sandbox")) -}}
{{- end -}}

{{/* What has to stand before the agent's command, as a JSON list: nothing but with a device plugin. */}}
{{- define "overlayfs-mount.pod.command" -}}
{{- $facts := include "overlayfs-mount.pod.facts" . | fromJson -}}
{{- $command := list -}}
{{- if eq $facts.kind "devicePlugin" -}}
{{- $command = list "/opt/overlayfs-mount/overlayfs-mount" "exec" "-c" (printf "/etc/overlayfs-mount/%s.yaml" $facts.access) "--" -}}
{{- end -}}
{{- toRawJson $command -}}
{{- end -}}

{{/* The agent container's `resources` with the device that it needs, if it needs one. Takes them as `resources`. */}}
{{- define "overlayfs-mount.pod.resources" -}}
{{- $resources := deepCopy (.resources | default dict) -}}
{{- if eq (include "overlayfs-mount.pod.facts" . | fromJson).kind "devicePlugin" -}}
{{- $device := .chart.Values.devicePlugin -}}
{{- $limits := set ($resources.limits | default dict) $device.resource (int64 $device.count) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
