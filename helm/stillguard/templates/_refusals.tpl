{{- /* What the schema can't see: values that are fine each by itself, and can't be meant together. Where a value is left out the
server's default counts, and a test holds these to it. */}}
{{- define "stillguard.refuseClashes" -}}
{{- if and (eq .Values.artifact.source "oci") (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) }}
{{- fail "artifact.source oci is an image volume, which Kubernetes has from 1.33" }}
{{- end }}
{{- if eq (int .Values.ports.http) (int .Values.ports.admin) }}
{{- fail "ports.http and ports.admin must be two ports" }}
{{- end }}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{- range $values := list "commonLabels" "podLabels" }}
{{- if hasKey (get $.Values $values) $label }}
{{- fail (printf "%s can't have %s: the chart sets it, and selects its pods by such labels" $values $label) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $label, $_ := .Values.podLabels }}
{{- if hasKey $.Values.commonLabels $label }}
{{- fail (printf "podLabels and commonLabels both have %s" $label) }}
{{- end }}
{{- end }}
{{- $settings := .Values.settings }}
{{- if lt (dig "encode_max_chars" 1000000 $settings | int64) (dig "max_request_chars" 200000 $settings | int64) }}
{{- fail "settings.encode_max_chars must be at least settings.max_request_chars" }}
{{- end }}
{{- if gt (dig "teacher_breaker_failures" 5 $settings | int64) (dig "teacher_breaker_window" 10 $settings | int64) }}
{{- fail "settings.teacher_breaker_failures must be at most settings.teacher_breaker_window" }}
{{- end }}
{{- if le (dig "async_ttl_s" 300 $settings | float64) (get $settings "teacher_timeout_s" | float64) }}
{{- fail "settings.async_ttl_s must be more than settings.teacher_timeout_s" }}
{{- end }}
{{- if and .Values.feedback.enabled (eq .Values.feedback.volume "emptyDir") }}
{{- if le (include "stillguard.bytes" .Values.feedback.sizeLimit | int64) (dig "feedback_max_bytes" 1073741824 $settings | int64) }}
{{- fail "feedback.sizeLimit must be above settings.feedback_max_bytes: a pod that is over its volume's limit is evicted" }}
{{- end }}
{{- end }}
{{- end }}
