{{- define "stillguard.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "stillguard.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "stillguard.name" . }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Arguments: (list . COMPONENT), for this and the next. */}}
{{- define "stillguard.selector" -}}
app.kubernetes.io/name: {{ include "stillguard.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "stillguard.labels" -}}
{{- $root := index . 0 -}}
{{ include "stillguard.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "stillguard.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "stillguard.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "stillguard.image" -}}
{{- $tag := .Values.image.tag }}
{{- if not $tag }}
{{- $tag = .Chart.AppVersion }}
{{- if .Values.gpu.enabled }}{{ $tag = printf "%s-gpu" $tag }}{{ end }}
{{- if eq .Values.teacher.kind "embedded" }}{{ $tag = printf "%s-teacher" $tag }}{{ end }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- end }}
{{- end }}

{{- /* What a pod may do: the restricted Pod Security Standard. */}}
{{- define "stillguard.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stillguard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Preferences, not orders: a pod that fits nowhere evenly still runs. Arguments: (list . COMPONENT). */}}
{{- define "stillguard.topologySpread" -}}
{{- $arguments := . -}}
{{- range (index . 0).Values.topologySpreadKeys -}}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "stillguard.selector" $arguments | nindent 6 }}
{{ end }}
{{- end }}

{{- /* An init container that fills VOLUME from URL. Arguments: (list . VOLUME URL SHA256).
The volume is mounted on the image's /tmp, for there everybody may write whatever the volume's first owner is. */}}
{{- define "stillguard.fetch" -}}
{{- $root := index . 0 -}}
- name: fetch
  image: {{ include "stillguard.image" $root }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: [python, /fetch/fetch.py, {{ index . 2 | quote }}, {{ index . 3 | quote }}, /tmp]
  securityContext: {{- include "stillguard.containerSecurity" $root | nindent 4 }}
  resources:
    requests: {cpu: 100m, memory: 64Mi}
    limits: {memory: 256Mi}
  volumeMounts:
    - {name: fetch, mountPath: /fetch, readOnly: true}
    - {name: {{ index . 1 }}, mountPath: /tmp}
{{- end }}

{{- define "stillguard.teacherUrl" -}}
{{- if eq .Values.teacher.kind "deployment" }}
{{- printf "http://%s-teacher:%v" (include "stillguard.fullname" .) .Values.teacher.deployment.port }}
{{- else }}
{{- .Values.teacher.url }}
{{- end }}
{{- end }}

{{- /* A setting as the environment has it: JSON for numbers, so that 2097152 doesn't become 2.097152e+06. */}}
{{- define "stillguard.setting" -}}
{{- ternary . (toJson .) (kindIs "string" .) | quote }}
{{- end }}

{{- /* A quantity of Kubernetes' (1.5Gi, 500M, 1000), in whole bytes. The schema knows no other suffixes. */}}
{{- define "stillguard.bytes" -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- $units = merge $units (dict "Ti" 1099511627776 "Pi" 1125899906842624) }}
{{- $suffix := regexFind "[A-Za-z]+$" (toString .) }}
{{- mulf (trimSuffix $suffix (toString .)) (get $units $suffix) | int64 }}
{{- end }}

{{- /* Arguments: (list . RESOURCES GPUS). */}}
{{- define "stillguard.resources" -}}
{{- $resources := deepCopy (index . 1) }}
{{- if index . 2 }}
{{- $resources = mergeOverwrite $resources (dict "limits" (dict (index . 0).Values.gpu.resource (index . 2))) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- /* Without a CPU limit the server would start one session per core of the node: one per whole core that it asked for. */}}
{{- define "stillguard.sessions" -}}
{{- $cpu := dig "requests" "cpu" "1" .Values.resources | toString }}
{{- $cores := ternary (div (trimSuffix "m" $cpu | int) 1000) (int (floor (float64 $cpu))) (hasSuffix "m" $cpu) }}
{{- max 1 $cores }}
{{- end }}

{{- /* Whole seconds from the pod's end being decided to SIGKILL: every step that the server may take, and a margin. */}}
{{- define "stillguard.gracePeriod" -}}
{{- $s := .Values.settings }}
{{- add .Values.shutdown.preStopSeconds (ceil $s.drain_timeout_s) (ceil $s.teacher_timeout_s) 1 .Values.shutdown.marginSeconds }}
{{- end }}

{{- /* Egress to a URL's port. Arguments: (list . URL PEERS). */}}
{{- define "stillguard.egress" -}}
{{- $url := urlParse (index . 1) }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) -}}
- ports: [{protocol: TCP, port: {{ $port }}}]
  {{- with index . 2 }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "stillguard.dns" -}}
- ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{- end }}
